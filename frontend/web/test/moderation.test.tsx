import { ApiError, type Joined, type ServerEvent } from "@lac/client";
import { act, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";
import { broadcast, chat, live, person, user, visit } from "./world";

const tom = person("u1", { displayName: "Ana" });
const you = {
  id: "u1",
  displayName: "Ana",
  role: "listener",
  anonymous: false,
  token: null,
} as const;
const at = "2026-01-01T08:00:00Z";

async function enter(changes: Partial<Joined> = {}, options: Parameters<typeof visit>[1] = {}) {
  const world = await visit("/b/b1", { shows: [live()], user, ...options });
  await screen.findByRole("heading", { name: "Morning" });
  await waitFor(() => expect(world.sockets).toHaveLength(1));
  const data = { broadcast: live(), you, members: [tom, person("p")], ...changes };
  act(() => world.socket().join(data));
  const tell = (event: ServerEvent) => act(() => world.socket().receive(event));
  const answer = (event: string, data = {}) => act(() => world.socket().answer(event, data));
  return { ...world, tell, answer };
}

const press = (name: string) => userEvent.click(screen.getByRole("button", { name }));
const pick = async (menu: string, item: string) => {
  await press(menu);
  await userEvent.click(screen.getByRole("menuitem", { name: item }));
};

describe("an invitation to speak", () => {
  it("leads to the stage, and nobody hears anything before one starts", async () => {
    const { socket, tell, answer, links } = await enter({ invited: true });
    const dialog = screen.getByRole("dialog", { name: "You are invited to speak" });
    await userEvent.click(within(dialog).getByRole("button", { name: "Accept" }));
    expect(socket().last("acceptInvite")).toBeDefined();
    tell({ event: "roleChanged", data: { user: { ...tom, role: "speaker" } } });
    answer("acceptInvite");
    expect(await screen.findByRole("combobox", { name: "Microphone" })).toBeVisible();
    expect(links).toHaveLength(0);
    await press("Start speaking");
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({ name: "connected" });
    expect(screen.getByText("Everyone hears you.")).toBeVisible();
    await press("Mute myself");
    expect(screen.getByText("You have muted yourself.")).toBeVisible();

    tell({ event: "roleChanged", data: { user: tom } });
    expect(screen.getByText("You are back in the audience")).toBeVisible();
    expect(links[0]?.closed).toBe(true);
  });

  it("waits on the page when its dialog is closed, and can be declined", async () => {
    const { socket, tell, answer } = await enter();
    tell({ event: "invitedToSpeak", data: { byUserId: "h" } });
    act(() => screen.getByRole<HTMLDialogElement>("dialog").close());
    await userEvent.click(await screen.findByRole("button", { name: "Answer" }));
    await press("Decline");
    expect(socket().last("declineInvite")).toBeDefined();
    answer("declineInvite");
    await waitFor(() => expect(screen.queryByRole("dialog")).not.toBeInTheDocument());
  });

  it("says so when the stage is full, and lets one try again", async () => {
    const { links } = await enter({
      you: { ...you, role: "speaker" },
      members: [{ ...tom, role: "speaker" }],
      producers: [{ id: "1", userId: "h" }],
    });
    await press("Start speaking");
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({
      name: "failed",
      error: new ApiError(409, "stage_full", "The stage is full: 12 people are on it."),
    });
    expect(screen.getByText(/The stage is full/)).toBeVisible();
    await press("Start speaking");
    await waitFor(() => expect(links).toHaveLength(2));
  });

  it("plays the others on the stage, each by themselves, while one speaks", async () => {
    const { tell, links, stages } = await enter({
      you: { ...you, role: "speaker" },
      members: [{ ...tom, role: "speaker" }],
      producers: [{ id: "1", userId: "h" }],
    });
    expect(stages).toHaveLength(0);
    await press("Start speaking");
    await waitFor(() => expect(links).toHaveLength(1));
    links[0]?.tell({ name: "connected" });
    await waitFor(() => expect(stages[0]?.heard).toEqual(["1"]));
    tell({
      event: "activeSpeakers",
      data: {
        producers: [
          { id: "1", userId: "h" },
          { id: "2", userId: you.id },
          { id: "3", userId: "ann" },
        ],
        speaking: [{ userId: "h", level: -20 }],
      },
    });
    await waitFor(() => expect(stages[0]?.heard).toEqual(["1", "3"]));
    expect(screen.getByRole("list", { name: "On stage" })).toHaveTextContent("(speaking)");
    await press("Leave the stage");
    expect(stages[0]?.closed).toBe(true);
  });
});

describe("the chat's rules", () => {
  it("count down in slow mode, and keep what was written", async () => {
    const { socket } = await enter({ slowModeS: 30 });
    await userEvent.type(screen.getByRole("textbox", { name: "Message" }), "Hello{Enter}");
    await waitFor(() => expect(socket().last("chatMessage")).toBeDefined());
    act(() => socket().refuse("chatMessage", "slow_mode", "Slow.", { retryAfterMs: 7000 }));
    expect(await screen.findByRole("timer")).toHaveTextContent("7 s");
    expect(screen.getByRole("textbox", { name: "Message" })).toHaveValue("Hello");
  });

  it("are said when nobody may write", async () => {
    const { tell } = await enter();
    tell({ event: "chatMode", data: { mode: "closed" } });
    expect(screen.getByText("The chat is closed just now.")).toBeVisible();
    expect(screen.queryByRole("textbox", { name: "Message" })).not.toBeInTheDocument();
  });

  it("let one follow the host where only followers write", async () => {
    const profile = { id: "h", displayName: "Host", createdAt: at, followers: 0, following: 0 };
    const { calls } = await enter(
      { chatMode: "followers" },
      {
        answer: ({ path }) =>
          path.startsWith("/api/users/h") ? { body: { ...profile, followed: false } } : null,
      },
    );
    await userEvent.click(await screen.findByRole("button", { name: "Follow Host" }));
    expect(await screen.findByRole("textbox", { name: "Message" })).toBeVisible();
    expect(calls).toContainEqual(
      expect.objectContaining({ method: "PUT", path: "/api/users/h/follow" }),
    );
  });
});

describe("a moderator", () => {
  const moderator = { you: { ...you, role: "moderator" }, role: "moderator" } as const;
  const gull = person("g", { displayName: "Gull" });

  it("deletes and clears with the menus", async () => {
    const { socket, tell } = await enter({
      ...moderator,
      members: [gull],
      recentMessages: [{ ...chat("m1", at, "Buy"), user: gull }],
    });
    await pick("About the message of Gull", "Delete message");
    expect(socket().last("deleteMessage")?.data).toEqual({ messageId: "m1" });
    tell({ event: "messageDeleted", data: { id: "m1" } });
    expect(screen.queryByText("Buy")).not.toBeInTheDocument();
    await pick("More about Gull", "Clear their messages");
    expect(socket().last("clearMessages")?.data).toEqual({ userId: "g" });
  });

  it("bans for a time, with a reason", async () => {
    const { socket } = await enter({ ...moderator, members: [gull] });
    await pick("More about Gull", "Ban…");
    const dialog = screen.getByRole("dialog", { name: "Ban Gull?" });
    await userEvent.type(within(dialog).getByLabelText(/Reason/), "Spam");
    await userEvent.selectOptions(within(dialog).getByLabelText("For how long"), "1 hour");
    await userEvent.click(within(dialog).getByRole("button", { name: "Ban" }));
    const { until, ...sent } = { ...socket().last("remove")?.data };
    expect(sent).toEqual({ userId: "g", reason: "Spam", ban: true });
    expect(Date.parse(String(until)) - Date.now()).toBeGreaterThan(3_500_000);
  });

  it("has no power over stronger roles", async () => {
    await enter({ ...moderator, members: [person("h", { displayName: "Host", role: "host" })] });
    expect(screen.queryByRole("button", { name: "More about Host" })).not.toBeInTheDocument();
  });
});

describe("coming back", () => {
  it("asks for what was said since, and shows where messages are missing", async () => {
    const { socket, sockets } = await enter({ recentMessages: [chat("m1", at), chat("m2", at)] });
    act(() => socket().drop(1006));
    await waitFor(() => expect(sockets).toHaveLength(2), { timeout: 2000 });
    const missed = chat("m9", "2026-01-01T08:05:00Z");
    const back = { you, messagesMissed: true, deletedMessages: ["m1"], recentMessages: [missed] };
    act(() => socket().join(back));
    expect(socket().last("join")?.data.since).toBe("m2");
    expect(screen.queryByText("m1")).not.toBeInTheDocument();
    await press("Show them");
    await waitFor(() => expect(screen.queryByText(/are missing/)).not.toBeInTheDocument());
  });
});

describe("being kept out", () => {
  it("says until when, and lets one back in afterwards", async () => {
    const { socket, tell } = await enter();
    const until = new Date(Date.now() + 3_600_000).toISOString();
    tell({ event: "removed", data: { reason: "Spam", banned: true, until } });
    act(() => socket().drop(4403));
    const heading = { name: "You are banned from this show" };
    expect(await screen.findByRole("heading", heading)).toBeVisible();
    expect(screen.getByText(/You can come back after/)).toHaveTextContent("Spam");
  });

  it("says that the room is locked", async () => {
    const { sockets } = await visit("/b/b1", { shows: [broadcast()], user });
    await waitFor(() => expect(sockets).toHaveLength(1));
    act(() => {
      sockets[0]?.open();
    });
    act(() => sockets[0]?.refuse("join", "room_locked"));
    await act(async () => undefined);
    act(() => sockets[0]?.drop(1008));
    expect(await screen.findByRole("heading", { name: "The room is locked" })).toBeVisible();
  });
});
