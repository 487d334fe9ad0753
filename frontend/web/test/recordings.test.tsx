import type { Recording } from "@lac/client";
import { act, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { barsOf } from "../src/lib/recordings";
import { host, live, mine, person, visit } from "./world";

const recording = (changes: Partial<Recording> = {}): Recording => ({
  id: "r1",
  broadcastId: "b1",
  status: "ready",
  title: "Morning",
  description: "",
  part: 1,
  startedAt: "2026-01-01T08:00:00Z",
  endedAt: "2026-01-01T08:02:00Z",
  durationS: 120,
  sizeBytes: 960_000,
  contentType: "audio/ogg; codecs=opus",
  sha256: "0",
  mediaStartS: 0,
  lostS: 0,
  endReason: "ended",
  failure: null,
  playable: true,
  ...changes,
});

const chapters = [
  { startS: 0, title: "Welcome", kind: "mark", personId: null },
  { startS: 60, title: "The harbour", kind: "mark", personId: null },
];
const chat = [
  { startS: 5, id: "m1", user: person("ann"), text: "Hello all", at: "2026-01-01T08:00:05Z" },
  { startS: 70, id: "m2", user: person("bo"), text: "What a view", at: "2026-01-01T08:01:10Z" },
];

type Answer = NonNullable<NonNullable<Parameters<typeof visit>[1]>["answer"]>;

const recorded =
  (items: Recording[], exports: unknown[] = []): Answer =>
  ({ path, method }) => {
    const { pathname } = new URL(path, "http://server");
    if (pathname === "/api/recordings") return { body: { items, nextCursor: null } };
    if (pathname.endsWith("/chapters") && method === "GET") return { body: { chapters } };
    if (pathname.endsWith("/recordings/r1/messages"))
      return { body: { items: chat, nextCursor: null } };
    if (pathname.endsWith("/exports") && method === "GET") return { body: { items: exports } };
    if (pathname.endsWith("/exports"))
      return {
        status: 202,
        body: { format: "mp3", status: "queued", progress: 0, error: null, url: null },
      };
    if (pathname.endsWith("/download")) return { body: "audio" };
    if (pathname.endsWith("/peaks")) return { status: 409, body: { code: "analysis_pending" } };
    return null;
  };

const ended = (changes = {}) =>
  live({ status: "ended", endedAt: "2026-01-01T08:02:00Z", ...changes });

beforeEach(() => {
  vi.spyOn(HTMLMediaElement.prototype, "canPlayType").mockReturnValue("probably");
});

const audio = () => {
  const element = document.querySelector("audio[src]");
  if (!(element instanceof HTMLAudioElement)) throw new Error("there is no audio");
  return element;
};

describe("a show that is over", () => {
  it("can be heard again, by chapters, with the chat of the moment", async () => {
    await visit("/b/b1", { shows: [ended()], answer: recorded([recording()]) });
    await screen.findByRole("button", { name: "Play the recording" });
    expect(audio().getAttribute("src")).toBe("/api/recordings/r1/download");
    expect(screen.getByText("0:00 / 2:00")).toBeVisible();
    const log = screen.getByRole("log", { name: "Chat messages" });
    expect(within(log).queryByText("Hello all")).not.toBeInTheDocument();

    await userEvent.click(await screen.findByRole("button", { name: /The harbour/ }));
    expect(audio().currentTime).toBe(60);
    expect(screen.getByText("1:00 / 2:00")).toBeVisible();
    expect(within(log).getByText("Hello all")).toBeVisible();
    expect(within(log).queryByText("What a view")).not.toBeInTheDocument();
    expect(screen.getByRole("button", { name: /The harbour/ })).toHaveAttribute("aria-current");

    await userEvent.click(screen.getByRole("button", { name: "Forward 30 seconds" }));
    expect(within(log).getByText("What a view")).toBeVisible();
    fireEvent.change(screen.getByRole("slider", { name: "Position" }), { target: { value: "10" } });
    expect(audio().currentTime).toBe(10);
    expect(screen.getByRole("slider", { name: "Position" })).toHaveAttribute(
      "aria-valuetext",
      "0:10 of 2:00",
    );
  });

  it("says so while its recording is being finished, and then has it", async () => {
    let status: Recording["status"] = "processing";
    const answer: Answer = (call) => recorded([recording({ status })])(call);
    await visit("/b/b1", { shows: [ended()], answer });
    expect(await screen.findByText(/being finished/)).toBeVisible();
    status = "ready";
    expect(
      await screen.findByRole("button", { name: "Play the recording" }, { timeout: 5_000 }),
    ).toBeVisible();
  });

  it("has its own chat where nothing was recorded", async () => {
    await visit("/b/b1", { shows: [ended()], answer: recorded([]) });
    expect(await screen.findByText("This show has ended")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Play the recording" })).not.toBeInTheDocument();
  });

  it("lets its host make copies and remove it", async () => {
    const shows = [mine({ status: "ended", endedAt: "2026-01-01T08:02:00Z" })];
    const { calls } = await visit("/b/b1", { user: host, shows, answer: recorded([recording()]) });
    await userEvent.click(await screen.findByRole("button", { name: "Make MP3" }));
    expect(await screen.findByRole("progressbar", { name: "Progress of MP3" })).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Delete recording" }));
    await userEvent.click(screen.getByRole("button", { name: "Delete for good" }));
    await waitFor(() =>
      expect(
        calls.some(({ method, path }) => method === "DELETE" && path.endsWith("/recordings/r1")),
      ).toBe(true),
    );
  });
});

describe("a recording that failed", () => {
  const shows = [mine({ status: "ended", endedAt: "2026-01-01T08:02:00Z" })];

  it("can be heard and saved as far as it goes, and says why it is not whole", async () => {
    const failed = recording({ status: "failed", failure: "disk_full", durationS: 75 });
    await visit("/b/b1", { user: host, shows, answer: recorded([failed]) });
    expect(await screen.findByText(/disk was full. What came after 1:15 is missing/)).toBeVisible();
    expect(screen.getByRole("button", { name: "Play the recording" })).toBeVisible();
    // Its address opens nothing without a token, which only a fetch can carry.
    expect(document.querySelector("audio[src]")).toBeNull();
    expect(screen.queryByRole("link", { name: "Original (Ogg Opus)" })).not.toBeInTheDocument();
    expect(screen.getByRole("button", { name: "Original (Ogg Opus)" })).toBeVisible();
    expect(screen.getByRole("button", { name: "Make MP3" })).toBeVisible();

    URL.createObjectURL = () => "blob:fetched";
    URL.revokeObjectURL = () => undefined;
    const played: (string | null)[] = [];
    vi.spyOn(HTMLMediaElement.prototype, "play").mockImplementation(async function (
      this: HTMLMediaElement,
    ) {
      played.push(this.getAttribute("src"));
    });
    await userEvent.click(screen.getByRole("button", { name: "Play the recording" }));
    await waitFor(() => expect(played).toEqual(["blob:fetched"]));
    expect(screen.queryByText("The recording cannot be played")).not.toBeInTheDocument();
  });

  it("says so where nothing was kept, and can be removed", async () => {
    const failed = recording({
      status: "failed",
      failure: "nothing_recorded",
      durationS: 0,
      playable: false,
    });
    const { calls } = await visit("/b/b1", { user: host, shows, answer: recorded([failed]) });
    expect(await screen.findByText(/Nothing was written. There is nothing to hear/)).toBeVisible();
    expect(screen.queryByRole("button", { name: "Play the recording" })).not.toBeInTheDocument();
    expect(screen.getByText("This show has ended")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Delete recording" }));
    await userEvent.click(screen.getByRole("button", { name: "Delete for good" }));
    await waitFor(() => expect(calls.some(({ method }) => method === "DELETE")).toBe(true));
  });
});

describe("the recorder", () => {
  it("is the host's to start, to mark and to stop, and everyone sees it", async () => {
    const { calls, socket } = await visit("/host/b1", {
      user: host,
      shows: [mine()],
      answer: ({ path, method }) => {
        if (method === "POST" && path.endsWith("/record/chapters"))
          return {
            status: 201,
            body: { startS: 65, title: "Part two", kind: "mark", personId: null },
          };
        if (method === "POST" && path.includes("/record/")) return { body: recording() };
        return null;
      },
    });
    await userEvent.click(await screen.findByRole("button", { name: "Record" }));
    expect(calls.some(({ path }) => path.endsWith("/record/start"))).toBe(true);
    act(() =>
      socket().join({
        broadcast: mine(),
        role: "host",
        you: { id: "h", displayName: "Host", role: "host", anonymous: false, token: null },
      }),
    );
    act(() => socket().receive({ event: "recording", data: { state: "recording" } }));
    expect(screen.getByText("Recorded")).toBeVisible();
    await userEvent.type(screen.getByRole("textbox", { name: /A new chapter/ }), "Part two{Enter}");
    expect(await screen.findByText("“Part two” begins at 1:05.")).toBeVisible();
    act(() => socket().receive({ event: "recording", data: { state: "interrupted" } }));
    expect(screen.getByText("Recording interrupted")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Stop recording" }));
    expect(calls.some(({ path }) => path.endsWith("/record/stop"))).toBe(true);
  });
});

describe("the waveform", () => {
  it("shows the loudest of each stretch", () => {
    const data = [-10, 20, -127, 5, 0, 0, -3, 64];
    const peaks = {
      data,
      length: 4,
      version: 2,
      channels: 1,
      sample_rate: 48_000,
      samples_per_pixel: 4_800,
      bits: 8,
    };
    expect(barsOf(peaks, 2)).toEqual([1, 64 / 127]);
    expect(barsOf(peaks, 10)).toHaveLength(4);
  });
});
