import { ApiError, type Joined, type ServerEvent } from "@lac/client";
import { act, cleanup, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";
import { broadcast, chat, live, person, user, visit } from "./world";

/** The player page of a live show, with its room joined. */
async function enter(changes: Partial<Joined> = {}, options: Parameters<typeof visit>[1] = {}) {
  const world = await visit("/b/b1", { shows: [live()], ...options });
  await screen.findByRole("heading", { name: "Morning" });
  await waitFor(() => expect(world.sockets).toHaveLength(1));
  act(() => world.socket().join({ broadcast: live(), ...changes }));
  const tell = (event: ServerEvent) => act(() => world.socket().receive(event));
  return { ...world, tell };
}

describe("listening", () => {
  it("starts and stops with one button, and says how it goes", async () => {
    const { links } = await enter();
    expect(screen.getByText("Press Listen to hear the show")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    expect(screen.getByText("Connecting…")).toBeVisible();
    links[0]?.tell({ name: "connected" });
    expect(screen.getByText("You are listening live")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Stop listening" }));
    expect(links[0]?.closed).toBe(true);
    expect(screen.getByRole("button", { name: "Listen" })).toBeVisible();
  });

  it("asks for the sound as somebody in the room, however early the button is pressed", async () => {
    const { sockets, socket, links } = await visit("/b/b1", { shows: [live()] });
    await screen.findByRole("heading", { name: "Morning" });
    await waitFor(() => expect(sockets).toHaveLength(1));
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    expect(screen.getByText("Connecting…")).toBeVisible();
    expect(links).toHaveLength(0);
    act(() => socket().join({ broadcast: live() }));
    await waitFor(() => expect(links).toHaveLength(1));
  });

  it("saves data when asked to, at once and the next time", async () => {
    const { links } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    const saving = () => screen.getByRole("switch", { name: /Save data/ });
    expect(saving()).not.toBeChecked();
    await userEvent.click(saving());
    expect(saving()).toBeChecked();
    expect(links[0]?.variants).toEqual(["opus", "opus3"]);
    cleanup();
    const again = await enter();
    expect(saving()).toBeChecked();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    expect(again.links[0]?.variants).toEqual(["opus3"]);
    saving().focus();
    await userEvent.keyboard(" ");
    expect(again.links[0]?.variants).toEqual(["opus3", "opus"]);
  });

  it("saves data from the beginning when the browser does", async () => {
    Object.defineProperty(navigator, "connection", {
      value: { saveData: true },
      configurable: true,
    });
    const { links } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    expect(links[0]?.variants).toEqual(["opus3"]);
    Reflect.deleteProperty(navigator, "connection");
  });

  it("says what to do when it does not work", async () => {
    const { links } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    const error = new ApiError(0, "media_unreachable", "A firewall is in the way.");
    links[0]?.tell({ name: "failed", error });
    expect(await screen.findByRole("alert")).toHaveTextContent(
      "A firewall is in the way. Press Listen to try again.",
    );
    expect(screen.getByRole("button", { name: "Listen" })).toBeVisible();
  });

  describe("by HLS", () => {
    const address = {
      url: "/hls/b1/pass/index.m3u8",
      expiresAt: "2026-05-01T12:00:00Z",
      mediaTimeZero: "2026-05-01T11:00:00Z",
      windowS: 1800,
      preferred: false,
    };
    const position = { behindS: 1.5, windowS: 125, live: true, finished: false };

    async function hear() {
      const world = await enter();
      await userEvent.click(screen.getByRole("button", { name: "Listen" }));
      const error = new ApiError(503, "use_hls", "Many listen.", {}, 2000, address);
      world.links[0]?.tell({ name: "failed", error });
      await waitFor(() => expect(world.playbacks).toHaveLength(1));
      const [playback] = world.playbacks;
      if (!playback) throw new Error("nothing plays");
      playback.tell({ name: "connected" });
      playback.move(position);
      return { ...world, playback };
    }

    it("is gone to without a word, goes back and returns to live by keyboard", async () => {
      const { playback } = await hear();
      expect(screen.getByText("You are listening live, a few seconds behind")).toBeVisible();
      expect(screen.getByRole("button", { name: "Return to live" })).toBeDisabled();
      const slider = screen.getByRole("slider", { name: "How far back you listen" });
      expect(slider).toHaveAttribute("aria-valuetext", "At live");
      screen.getByRole("button", { name: "Back 30 s" }).focus();
      await userEvent.keyboard("{Enter}");
      expect(playback.asked).toEqual([31.5]);
      playback.move({ ...position, behindS: 65, live: false });
      expect(screen.getByText("You hear what was said before")).toBeVisible();
      expect(slider).toHaveAttribute("aria-valuetext", "1 minute 5 seconds before live");
      fireEvent.change(slider, { target: { value: "-100" } });
      fireEvent.change(slider, { target: { value: "-90" } });
      await waitFor(() => expect(playback.asked).toEqual([31.5, 90]));
      await userEvent.click(screen.getByRole("button", { name: "Return to live" }));
      expect(playback.asked.at(-1)).toBe("live");
    });

    it("shows what was said when it is heard", async () => {
      const { playback, tell } = await hear();
      playback.heard = 100;
      tell({
        event: "chatMessage",
        data: { ...chat("m1", "2026-05-01T11:01:42Z", "Hear, hear"), mediaTime: 102 },
      });
      expect(screen.queryByText("Hear, hear")).not.toBeInTheDocument();
      playback.heard = 102.5;
      expect(await screen.findByText("Hear, hear")).toBeVisible();
    });

    it("changes over when there is room, but takes nobody from the past", async () => {
      const { playback, links, tell } = await hear();
      playback.move({ ...position, behindS: 65, live: false });
      tell({ event: "listenVia", data: { via: "webrtc" } });
      expect(links).toHaveLength(1);
      playback.move(position);
      await waitFor(() => expect(links).toHaveLength(2));
      links[1]?.tell({ name: "connected" });
      expect(screen.getByText("You are listening live")).toBeVisible();
      expect(playback.closed).toBe(true);
    });

    it("changes over at once for who is to speak", async () => {
      const { links, tell } = await hear();
      const me = person("g1", { role: "speaker" });
      tell({ event: "roleChanged", data: { user: me } });
      await waitFor(() => expect(links).toHaveLength(2));
    });
  });

  it("goes on while the host is away", async () => {
    const { links, tell } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    links[0]?.tell({ name: "connected" });
    tell({ event: "hostAway", data: { until: "2026-01-01T08:02:00Z" } });
    expect(screen.getByText("The host has lost the connection")).toBeVisible();
    expect(screen.getByRole("button", { name: "Stop listening" })).toBeVisible();
    expect(links[0]?.closed).toBe(false);
    tell({ event: "hostBack", data: {} });
    expect(screen.queryByText("The host has lost the connection")).not.toBeInTheDocument();
  });

  it("stops when the show ends", async () => {
    const { links, tell } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    tell({
      event: "broadcastEnded",
      data: { endedAt: new Date().toISOString(), reason: "ended" },
    });
    expect(screen.getByText("This show has ended")).toBeVisible();
    await waitFor(() => expect(links[0]?.closed).toBe(true));
    expect(screen.queryByRole("textbox", { name: "Message" })).not.toBeInTheDocument();
  });

  it("counts the others", async () => {
    const { tell } = await enter({ listenerCount: 1 });
    expect(screen.getByText("1 listener")).toBeVisible();
    tell({ event: "listenerCount", data: { count: 2 } });
    expect(screen.getByText("2 listeners")).toBeVisible();
  });
});

describe("states of a show", () => {
  it("waits with those who are early, and starts by itself when they ask", async () => {
    const scheduledAt = new Date(Date.now() + 3_700_000).toISOString();
    const show = broadcast({ status: "scheduled", startedAt: null, scheduledAt });
    const { links, tell } = await enter({ broadcast: show }, { shows: [show] });
    expect(screen.getByRole("timer")).toHaveTextContent("1 h 1 min");
    await userEvent.click(screen.getByRole("button", { name: "Listen when it starts" }));
    tell({ event: "broadcastStarted", data: { startedAt: new Date().toISOString() } });
    await waitFor(() => expect(links).toHaveLength(1));
    expect(screen.getByRole("button", { name: "Stop listening" })).toBeVisible();
  });

  it("says that it has ended to those who are late", async () => {
    const show = broadcast({ status: "ended", endedAt: "2026-01-01T09:30:00Z" });
    await visit("/b/b1", { shows: [show] });
    expect(await screen.findByText("It lasted 1:30:00.")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Listen" })).not.toBeInTheDocument();
  });

  it("says that there is none", async () => {
    await visit("/b/other");
    expect(await screen.findByRole("heading", { name: "This show was not found" })).toBeVisible();
  });

  it("says that it is private", async () => {
    await visit("/b/b1", {
      answer: () => ({ status: 403, body: { code: "forbidden", detail: "No." } }),
    });
    expect(await screen.findByRole("heading", { name: "This show is private" })).toBeVisible();
    expect(screen.getByRole("main")).toHaveTextContent(/sign in/i);
  });

  it("shuts out who was removed, sound included", async () => {
    const { links, socket, tell } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "Listen" }));
    tell({ event: "removed", data: { reason: "Spam" } });
    act(() => socket().drop(4403));
    expect(
      await screen.findByRole("heading", { name: "You were removed from this show" }),
    ).toBeVisible();
    expect(screen.getByText(/Spam/)).toBeVisible();
    expect(links[0]?.closed).toBe(true);
  });
});

describe("chat", () => {
  it("sends what signed-in people write, and empties the field when it has arrived", async () => {
    const { socket } = await enter(
      { you: { id: "u1", displayName: "Ana", role: "listener", anonymous: false, token: null } },
      { user },
    );
    const field = screen.getByRole("textbox", { name: "Message" });
    await userEvent.type(field, "Hello{Enter}");
    await waitFor(() => expect(socket().last("chatMessage")?.data).toEqual({ text: "Hello" }));
    expect(field).toHaveValue("Hello");
    act(() => socket().answer("chatMessage"));
    await waitFor(() => expect(field).toHaveValue(""));
  });

  it("keeps the text and says why when it was refused", async () => {
    const { socket } = await enter({}, { user });
    const field = screen.getByRole("textbox", { name: "Message" });
    await userEvent.type(field, "Hello{Enter}");
    await waitFor(() => expect(socket().last("chatMessage")).toBeDefined());
    act(() => socket().refuse("chatMessage", "too_many_messages", "Slow down."));
    expect(await screen.findByRole("alert")).toHaveTextContent("Slow down.");
    expect(field).toHaveValue("Hello");
  });

  it("asks guests for a name once, joins under it, then sends", async () => {
    const { socket, sockets } = await enter();
    await userEvent.type(screen.getByRole("textbox", { name: "Message" }), "Hello{Enter}");
    const dialog = await screen.findByRole("dialog", { name: "What should people call you?" });
    const name = within(dialog).getByLabelText("Your name");
    expect(name).toHaveFocus();
    await userEvent.type(name, "Seagull{Enter}");
    await waitFor(() => expect(sockets).toHaveLength(2));
    act(() => socket().join());
    expect(socket().last("join")?.data).toMatchObject({ name: "Seagull" });
    await waitFor(() => expect(socket().last("chatMessage")?.data).toEqual({ text: "Hello" }));
    act(() => socket().answer("chatMessage"));
    await waitFor(() => expect(screen.getByRole("textbox", { name: "Message" })).toHaveValue(""));
  });

  it("sends nothing when a guest would rather not say", async () => {
    const { socket } = await enter();
    await userEvent.type(screen.getByRole("textbox", { name: "Message" }), "Hello{Enter}");
    await userEvent.click(await screen.findByRole("button", { name: "Cancel" }));
    expect(screen.queryByRole("dialog")).not.toBeInTheDocument();
    expect(socket().last("chatMessage")).toBeUndefined();
  });

  it("shows what others write, and follows the end only for those who are there", async () => {
    const { tell } = await enter({
      recentMessages: [chat("1", "2026-01-01T08:00:00Z", "first")],
    });
    const log = screen.getByRole("log", { name: "Chat messages" });
    expect(within(log).getByText("first")).toBeVisible();
    // Reading further up: jsdom has no layout, so say how tall things are.
    Object.defineProperties(log, {
      scrollHeight: { value: 1000, configurable: true },
      clientHeight: { value: 200, configurable: true },
    });
    log.scrollTop = 100;
    act(() => {
      log.dispatchEvent(new Event("scroll", { bubbles: true }));
    });
    tell({ event: "chatMessage", data: chat("2", "2026-01-01T08:00:01Z", "second") });
    expect(log.scrollTop).toBe(100);
    const jump = screen.getByRole("button", { name: /1 new message/ });
    expect(within(log).getByText("New")).toBeVisible();
    await userEvent.click(jump);
    expect(log.scrollTop).toBe(1000);
    expect(screen.queryByRole("button", { name: /new message/ })).not.toBeInTheDocument();
  });
});

describe("taking part", () => {
  it("sends reactions", async () => {
    const { socket } = await enter();
    await userEvent.click(screen.getByRole("button", { name: "React with applause" }));
    expect(socket().last("reaction")?.data).toEqual({ emoji: "👏" });
  });

  it("raises the hand, shows the place in the queue, and lowers it", async () => {
    const { socket, tell } = await enter(
      {
        you: { id: "u1", displayName: "Ana", role: "listener", anonymous: false, token: null },
        members: [person("u1")],
      },
      { user },
    );
    await userEvent.click(screen.getByRole("button", { name: "Raise hand" }));
    await waitFor(() => expect(socket().last("raiseHand")?.data).toEqual({}));
    const raisedAt = new Date().toISOString();
    tell({
      event: "handRaised",
      data: { userId: "u1", displayName: "Ana", note: null, raisedAt, position: 1 },
    });
    expect(screen.getByText(/number 1 in the queue/)).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Lower hand" }));
    expect(socket().last("lowerHand")?.data).toEqual({});
  });
});

it("offers figures for support as window.lacDiagnostics while the page is open", async () => {
  const { links } = await enter();
  await userEvent.click(screen.getByRole("button", { name: "Listen" }));
  links[0]?.tell({ name: "connected" });
  await expect(window.lacDiagnostics?.stats()).resolves.toMatchObject({ packets: 5 });
  await userEvent.click(screen.getByRole("link", { name: /home/ }));
  expect(window.lacDiagnostics).toBeUndefined();
  expect(links[0]?.closed).toBe(true);
});

describe("other players", () => {
  it("are given addresses when somebody asks for them", async () => {
    const { calls } = await visit("/b/b1", {
      shows: [live()],
      answer: ({ path, method }) =>
        method === "POST" && path.endsWith("/b1/listen")
          ? {
              status: 201,
              body: { mp3: "/listen/b1.mp3", aac: "/listen/b1.aac", ogg: "/listen/b1.ogg" },
            }
          : null,
    });
    const asked = () => calls.some(({ path }) => path.endsWith("/listen"));
    const summary = await screen.findByText("Listen in another player");
    expect(asked()).toBe(false);
    await userEvent.click(summary);
    expect(await screen.findByDisplayValue(/\/listen\/b1\.mp3$/)).toBeVisible();
    expect(asked()).toBe(true);
  });
});
