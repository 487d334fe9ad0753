import type { Joined, ServerEvent } from "@lac/client";
import { act, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";
import { host, mine, person, visit } from "./world";

const you = { id: "h", displayName: "Host", role: "host", anonymous: false, token: null } as const;
const scheduled = () => mine({ status: "scheduled", startedAt: null });

async function console_(
  show = scheduled(),
  changes: Partial<Joined> = {},
  options: Parameters<typeof visit>[1] = {},
) {
  const world = await visit("/host/b1", { user: host, shows: [show], ...options });
  await screen.findByRole("heading", { name: "Morning" });
  await waitFor(() => expect(world.sockets).toHaveLength(1));
  act(() => world.socket().join({ broadcast: show, you, role: "host", ...changes }));
  const tell = (event: ServerEvent) => act(() => world.socket().receive(event));
  return { ...world, tell };
}

describe("recording", () => {
  it("begins and ends with a click, and says what the room says", async () => {
    const { calls, tell } = await console_(mine());
    await userEvent.click(screen.getByRole("button", { name: "Record" }));
    await waitFor(() =>
      expect(calls.some((call) => call.path === "/api/broadcasts/b1/record/start")).toBe(true),
    );
    tell({ event: "recording", data: { state: "recording" } });
    expect(screen.getByText("Recorded")).toBeVisible();
    tell({ event: "recording", data: { state: "interrupted" } });
    expect(screen.getByText("Recording interrupted")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Stop recording" }));
    await waitFor(() =>
      expect(calls.some((call) => call.path === "/api/broadcasts/b1/record/stop")).toBe(true),
    );
    tell({ event: "recording", data: { state: "off" } });
    expect(screen.getByRole("button", { name: "Record" })).toBeVisible();
  });

  it("says why it could not begin", async () => {
    await console_(
      mine(),
      {},
      {
        answer: (call) =>
          call.path.endsWith("/record/start")
            ? { status: 503, body: { code: "database_unavailable", detail: "Try again soon." } }
            : null,
      },
    );
    await userEvent.click(screen.getByRole("button", { name: "Record" }));
    expect(await screen.findByText("Try again soon.")).toBeVisible();
  });
});

describe("going on air", () => {
  it("starts the show and sends, with one click", async () => {
    const { calls, links } = await console_();
    expect(screen.getByText("Off air. Nobody hears you.")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Go live" }));
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({ name: "connected" });
    expect(screen.getByText("You are on air.")).toBeVisible();
    expect(calls.some((call) => call.path === "/api/broadcasts/b1/start")).toBe(true);
    expect(screen.getByRole("combobox", { name: "Microphone" })).toBeVisible();
  });

  it("resumes a live show after a reload with one click", async () => {
    const { links } = await console_(mine());
    await userEvent.click(screen.getByRole("button", { name: "Resume show" }));
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({ name: "connected" });
    expect(screen.getByText("You are on air.")).toBeVisible();
  });

  it("pauses and continues", async () => {
    const { links } = await console_(mine());
    await userEvent.click(screen.getByRole("button", { name: "Resume show" }));
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({ name: "connected" });
    await userEvent.click(screen.getByRole("button", { name: "Pause" }));
    expect(screen.getByText(/On air, but paused/)).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Continue" }));
    expect(screen.getByText("You are on air.")).toBeVisible();
  });

  it("asks before it ends the show", async () => {
    const { calls } = await console_(mine());
    await userEvent.click(screen.getByRole("button", { name: "End show" }));
    const dialog = screen.getByRole("dialog", { name: "End this show for everyone?" });
    expect(calls.some((call) => call.path.endsWith("/end"))).toBe(false);
    await userEvent.click(within(dialog).getByRole("button", { name: "End for everyone" }));
    expect(await screen.findByText("The show has ended")).toBeVisible();
  });

  it("explains a blocked microphone and does not start the show", async () => {
    const { calls } = await console_(scheduled(), {}, { microphone: "denied" });
    await userEvent.click(screen.getByRole("button", { name: "Go live" }));
    expect(await screen.findByRole("alert")).toHaveTextContent("The microphone is blocked");
    expect(calls.some((call) => call.path.endsWith("/start"))).toBe(false);
    expect(screen.getByRole("button", { name: "Try again" })).toBeVisible();
  });

  it("says why the server refused", async () => {
    await console_(
      scheduled(),
      {},
      {
        answer: (call) =>
          call.path.endsWith("/start")
            ? { status: 409, body: { code: "already_ended", detail: "This show has ended." } }
            : null,
      },
    );
    await userEvent.click(screen.getByRole("button", { name: "Go live" }));
    expect(await screen.findByRole("alert")).toHaveTextContent("This show has ended.");
  });

  it("stays on air while the host looks at another page, and leads back", async () => {
    const { links } = await console_(mine());
    await userEvent.click(screen.getByRole("button", { name: "Resume show" }));
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({ name: "connected" });
    await userEvent.click(screen.getByRole("link", { name: "My shows" }));
    await screen.findByRole("heading", { name: "My shows" });
    expect(links[0]?.closed).toBe(false);
    await userEvent.click(screen.getByRole("link", { name: "On air" }));
    expect(await screen.findByText("You are on air.")).toBeVisible();
    expect(links).toHaveLength(1);
  });

  it("takes the sound kind as one choice, and remembers it", async () => {
    await console_();
    await userEvent.click(screen.getByRole("radio", { name: "Music" }));
    expect(screen.getByRole("radio", { name: "Music" })).toBeChecked();
    expect(JSON.parse(localStorage.getItem("lac.sound") ?? "{}")).toMatchObject({ kind: "music" });
  });
});

describe("people", () => {
  const speaker = person("s", { displayName: "Sol", role: "speaker" });
  const guest = person("g", { displayName: "Gull", anonymous: true });

  it("can be muted and unmuted when they can be heard", async () => {
    const { socket, tell } = await console_(mine(), { members: [speaker, guest] });
    expect(screen.queryByRole("button", { name: "Mute Gull" })).not.toBeInTheDocument();
    await userEvent.click(screen.getByRole("button", { name: "Mute Sol" }));
    expect(socket().last("mute")?.data).toEqual({ userId: "s" });
    tell({ event: "muted", data: { userId: "s" } });
    await userEvent.click(screen.getByRole("button", { name: "Unmute Sol" }));
    expect(socket().last("unmute")?.data).toEqual({ userId: "s" });
  });

  it("can be removed, with a reason and for good", async () => {
    const { socket } = await console_(mine(), { members: [guest] });
    await userEvent.click(screen.getByRole("button", { name: "Remove Gull" }));
    const dialog = screen.getByRole("dialog", { name: "Remove Gull?" });
    await userEvent.type(within(dialog).getByLabelText(/Reason/), "Spam");
    await userEvent.click(within(dialog).getByRole("checkbox", { name: /Also ban/ }));
    await userEvent.click(within(dialog).getByRole("button", { name: "Remove" }));
    expect(socket().last("remove")?.data).toEqual({ userId: "g", reason: "Spam", ban: true });
  });

  it("queue with their hands", async () => {
    const hand = {
      userId: "g",
      displayName: "Gull",
      note: "A question",
      raisedAt: "2026-01-01T08:00:00Z",
    };
    const { socket } = await console_(mine(), { members: [guest], hands: [hand] });
    expect(screen.getByRole("list", { name: "Raised hands" })).toHaveTextContent("A question");
    await userEvent.click(screen.getByRole("button", { name: "Lower the hand of Gull" }));
    expect(socket().last("lowerHand")?.data).toEqual({ userId: "g" });
  });

  it("are paged in a large room", async () => {
    const { socket } = await console_(mine(), { members: [speaker], memberCount: 300 });
    await userEvent.click(screen.getByRole("button", { name: "Show more people" }));
    act(() => socket().answer("listMembers", { items: [guest], nextCursor: null }));
    expect(await screen.findByText("Gull")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Show more people" })).not.toBeInTheDocument();
  });
});

it("keeps the stream key hidden until it is asked for", async () => {
  await console_();
  await userEvent.click(screen.getByText("Send from OBS or another encoder"));
  const key = screen.getByLabelText("Stream key");
  expect(key).toHaveAttribute("type", "password");
  await userEvent.click(screen.getByRole("button", { name: "Reveal stream key" }));
  expect(key).toHaveAttribute("type", "text");
  expect(key).toHaveValue("secret-key");
  expect(screen.getByLabelText("Server")).toHaveValue("http://localhost:3000/whip/b1");
});

it("is for hosts only", async () => {
  await visit("/host/b1", { user: host, shows: [mine({ yourRole: "listener" })] });
  expect(await screen.findByRole("heading", { name: "This is not your show" })).toBeVisible();
  expect(screen.queryByRole("button", { name: /live/i })).not.toBeInTheDocument();
});

describe("changing a show", () => {
  const dialog = () => screen.getByRole("dialog", { name: "Edit show" });

  it("sends what was changed, for the show as it was seen", async () => {
    const { calls } = await console_(
      mine(),
      {},
      {
        answer: (call) => {
          if (call.path !== "/api/broadcasts/b1") return null;
          const title = call.method === "PATCH" ? "Evening" : "Morning";
          return { body: mine({ title }), headers: { ETag: '"one"' } };
        },
      },
    );
    await userEvent.click(screen.getByRole("button", { name: "Edit show" }));
    const title = await within(dialog()).findByLabelText("Title");
    expect(title).toHaveFocus();
    await userEvent.clear(title);
    await userEvent.type(title, "Evening");
    await userEvent.click(within(dialog()).getByRole("button", { name: "Save" }));
    expect(await screen.findByRole("heading", { name: "Evening" })).toBeVisible();
    const patch = calls.find((call) => call.method === "PATCH");
    expect(patch).toMatchObject({ body: { title: "Evening" }, headers: { "If-Match": '"one"' } });
  });

  it("keeps what was written when somebody else was faster, and saves it on top", async () => {
    const saved: unknown[] = [];
    await console_(
      mine(),
      {},
      {
        answer: (call) => {
          if (call.path !== "/api/broadcasts/b1") return null;
          const theirs = mine({ title: "Theirs", description: "New words" });
          if (call.method === "GET") {
            return saved.length === 0
              ? { body: mine(), headers: { ETag: '"one"' } }
              : { body: theirs, headers: { ETag: '"two"' } };
          }
          saved.push([call.headers["If-Match"], call.body]);
          return call.headers["If-Match"] === '"two"'
            ? { body: { ...theirs, title: "Mine" } }
            : { status: 412, body: { code: "precondition_failed", detail: "Changed." } };
        },
      },
    );
    await userEvent.click(screen.getByRole("button", { name: "Edit show" }));
    const title = await within(dialog()).findByLabelText("Title");
    await userEvent.clear(title);
    await userEvent.type(title, "Mine");
    await userEvent.click(within(dialog()).getByRole("button", { name: "Save" }));
    expect(await within(dialog()).findByText(/Somebody else has changed/)).toBeVisible();
    expect(within(dialog()).getByLabelText("Title")).toHaveValue("Mine");
    expect(within(dialog()).getByLabelText(/Description/)).toHaveValue("New words");
    await userEvent.click(within(dialog()).getByRole("button", { name: "Save" }));
    expect(await screen.findByRole("heading", { name: "Mine" })).toBeVisible();
    expect(saved).toEqual([
      ['"one"', { title: "Mine" }],
      ['"two"', { title: "Mine" }],
    ]);
  });

  it("deletes it after a question", async () => {
    const { calls } = await console_(
      scheduled(),
      {},
      { answer: (call) => (call.method === "DELETE" ? { status: 204 } : null) },
    );
    await userEvent.click(screen.getByRole("button", { name: "Delete show" }));
    const question = screen.getByRole("dialog", { name: "Delete this show?" });
    expect(calls.some((call) => call.method === "DELETE")).toBe(false);
    await userEvent.click(within(question).getByRole("button", { name: "Delete for good" }));
    expect(await screen.findByRole("heading", { name: "My shows" })).toBeVisible();
  });
});

describe("secrets", () => {
  it("shows the invite link of a private show, and replaces it after a question", async () => {
    const show = mine({ visibility: "private", invite: "old" });
    const { calls } = await console_(
      show,
      {},
      {
        answer: (call) =>
          call.path.endsWith("/invite") ? { body: { ...show, invite: "new" } } : null,
      },
    );
    const link = screen.getByLabelText("Invite link");
    expect(link).toHaveValue(`${window.location.origin}/b/b1#invite=old`);
    await userEvent.click(screen.getByRole("button", { name: "New invite link" }));
    const question = screen.getByRole("dialog", { name: "Replace the invite link?" });
    expect(calls.some((call) => call.path.endsWith("/invite"))).toBe(false);
    await userEvent.click(within(question).getByRole("button", { name: "Replace it" }));
    await waitFor(() => expect(link).toHaveValue(`${window.location.origin}/b/b1#invite=new`));
  });

  it("are not for co-hosts to replace", async () => {
    const show = mine({ visibility: "private", invite: "old", yourRole: "cohost" });
    await console_(show, { you: { ...you, role: "cohost" }, role: "cohost" });
    expect(screen.getByLabelText("Invite link")).toBeVisible();
    expect(screen.queryByRole("button", { name: "New invite link" })).toBeNull();
    expect(screen.queryByRole("button", { name: "New stream key", hidden: true })).toBeNull();
    expect(screen.queryByRole("button", { name: "Delete show" })).toBeNull();
    await userEvent.click(screen.getByRole("button", { name: "Edit show" }));
    expect(await screen.findByLabelText("Title")).toBeVisible();
    expect(screen.queryByLabelText(/Description/)).toBeNull();
  });
});

describe("those who were banned", () => {
  it("are listed, and can be let back in", async () => {
    const ban = {
      userId: "u-9",
      displayName: "Loud",
      reason: "Advertising",
      until: null,
      createdAt: "2026-01-01T08:00:00Z",
      createdBy: "h",
    };
    const over = { ...ban, userId: "u-8", displayName: "Past", until: "2026-01-01T09:00:00Z" };
    const { calls } = await console_(
      mine(),
      {},
      {
        answer: (call) => {
          if (call.method === "DELETE") return { status: 204 };
          if (!call.path.includes("/bans")) return null;
          return { body: { items: [ban, over], nextCursor: null } };
        },
      },
    );
    await userEvent.click(screen.getByText("Banned people"));
    const list = await screen.findByRole("list", { name: "Banned people" });
    expect(list).toHaveTextContent("Loud");
    expect(list).toHaveTextContent("“Advertising”");
    expect(list).not.toHaveTextContent("Past");
    await userEvent.click(screen.getByRole("button", { name: "Let Loud come back" }));
    expect(await screen.findByText("Nobody is banned.")).toBeVisible();
    expect(screen.getByText("Loud can come back.")).toBeVisible();
    const lifted = calls.find((call) => call.method === "DELETE");
    expect(lifted?.path).toBe("/api/broadcasts/b1/bans/u-9");
  });
});

describe("roles", () => {
  it("are given and taken by whoever the show belongs to", async () => {
    const { calls, tell } = await console_(
      mine(),
      { members: [person("m", { displayName: "Miro" })], memberCount: 2 },
      { answer: (call) => (call.path.includes("/roles/") ? { status: 204 } : null) },
    );
    await userEvent.click(screen.getByRole("button", { name: "More about Miro" }));
    await userEvent.click(screen.getByRole("menuitem", { name: "Make moderator" }));
    const promoted = person("m", { displayName: "Miro", role: "moderator" });
    tell({ event: "roleChanged", data: { user: promoted } });
    await userEvent.click(screen.getByRole("button", { name: "More about Miro" }));
    await userEvent.click(screen.getByRole("menuitem", { name: "Take the role away" }));
    const roles = calls.filter((call) => call.path === "/api/broadcasts/b1/roles/m");
    expect(roles.map(({ method, body }) => [method, body])).toEqual([
      ["PUT", { role: "moderator" }],
      ["DELETE", undefined],
    ]);
  });
});
