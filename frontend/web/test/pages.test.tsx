import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";
import { safeNext } from "../src/components/AccountForm";
import { broadcast, user, visit } from "./world";

const problem = (status: number, code: string, detail: string, more: object = {}) => ({
  status,
  body: { code, detail, status, ...more },
});

describe("home", () => {
  it("lists who is live and who is coming", async () => {
    await visit("/", {
      shows: [
        broadcast({ id: "1", title: "On air now", listenerCount: 3 }),
        broadcast({
          id: "2",
          title: "Tomorrow",
          status: "scheduled",
          scheduledAt: "2030-01-01T08:00:00Z",
        }),
      ],
    });
    const now = await screen.findByRole("region", { name: "Live now" });
    expect(await within(now).findByRole("link", { name: "On air now" })).toHaveAttribute(
      "href",
      "/b/1",
    );
    expect(within(now).getByText("3 listeners")).toBeVisible();
    const later = screen.getByRole("region", { name: "Coming up" });
    expect(within(later).getByRole("link", { name: "Tomorrow" })).toBeVisible();
  });

  it("says what to do when there is nothing", async () => {
    await visit("/");
    expect(await screen.findByText(/Nobody is on air/)).toBeVisible();
  });

  it("offers another try when the server does not answer", async () => {
    let down = true;
    await visit("/", {
      answer: () => (down ? new TypeError("Failed to fetch") : null),
      shows: [broadcast({ title: "Back again" })],
    });
    expect(await screen.findByRole("alert")).toHaveTextContent(/did not answer/);
    down = false;
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByRole("link", { name: "Back again" })).toBeVisible();
    expect(screen.queryByRole("alert")).not.toBeInTheDocument();
  });
});

describe("accounts", () => {
  const signedIn = { user, accessToken: "a", refreshToken: "r", expiresIn: 900 };

  it("signs in and goes where the person wanted to go", async () => {
    const { calls } = await visit("/login?next=%2Fhost", {
      answer: (call) => (call.path === "/api/auth/login" ? { body: signedIn } : null),
    });
    await userEvent.type(await screen.findByLabelText("E-mail"), "ana@example.org");
    await userEvent.type(screen.getByLabelText("Password"), "correct horse{Enter}");
    expect(await screen.findByRole("heading", { name: "My shows" })).toBeVisible();
    expect(calls.find((call) => call.path === "/api/auth/login")?.body).toEqual({
      email: "ana@example.org",
      password: "correct horse",
    });
  });

  it("does not follow a `next` to another site", async () => {
    await visit("/login?next=//evil.example", {
      answer: (call) => (call.path === "/api/auth/login" ? { body: signedIn } : null),
    });
    await userEvent.type(await screen.findByLabelText("E-mail"), "ana@example.org");
    await userEvent.type(screen.getByLabelText("Password"), "correct horse{Enter}");
    expect(await screen.findByRole("heading", { name: /Live audio/ })).toBeVisible();
  });

  it("says what is wrong with the password", async () => {
    await visit("/login", {
      answer: (call) =>
        call.method === "POST"
          ? problem(401, "invalid_credentials", "E-mail or password is wrong.")
          : null,
    });
    await userEvent.type(await screen.findByLabelText("E-mail"), "ana@example.org");
    await userEvent.type(screen.getByLabelText("Password"), "nope{Enter}");
    expect(await screen.findByRole("alert")).toHaveTextContent("E-mail or password is wrong.");
  });

  it("marks the fields that cannot be taken, and starts with the first", async () => {
    const { calls } = await visit("/register");
    await userEvent.click(await screen.findByRole("button", { name: "Create account" }));
    const name = screen.getByLabelText("Display name");
    expect(name).toBeInvalid();
    expect(name).toHaveAccessibleDescription(/Write the name/);
    expect(name).toHaveFocus();
    expect(calls).toHaveLength(0);
  });

  it("shows the server's word on a field beside it", async () => {
    await visit("/register", {
      answer: () =>
        problem(409, "email_taken", "That address has an account. Sign in instead.", {
          errors: [{ field: "email", message: "has an account" }],
        }),
    });
    await userEvent.type(await screen.findByLabelText("Display name"), "Ana");
    await userEvent.type(screen.getByLabelText("E-mail"), "ana@example.org");
    await userEvent.type(screen.getByLabelText("Password"), "correct horse{Enter}");
    await waitFor(() => expect(screen.getByLabelText("E-mail")).toBeInvalid());
    expect(screen.getByLabelText("E-mail")).toHaveAccessibleDescription("has an account");
  });

  it("sets up the first admin with the link's token", async () => {
    const { calls } = await visit("/setup?token=once", {
      answer: (call) => (call.path === "/api/auth/setup" ? { body: signedIn } : null),
    });
    await userEvent.type(await screen.findByLabelText("Display name"), "Ana");
    await userEvent.type(screen.getByLabelText("E-mail"), "ana@example.org");
    await userEvent.type(screen.getByLabelText("Password"), "correct horse{Enter}");
    await screen.findByRole("heading", { name: "My shows" });
    expect(calls[0]?.body).toMatchObject({ token: "once", displayName: "Ana" });
  });

  it("changes the name and signs out", async () => {
    await visit("/account", {
      user,
      answer: (call) =>
        call.method === "PATCH" ? { body: { ...user, displayName: "Anna" } } : null,
    });
    const name = await screen.findByLabelText("Display name");
    await userEvent.clear(name);
    await userEvent.type(name, "Anna{Enter}");
    expect(await screen.findByText("Saved.")).toBeVisible();
    expect(screen.getByRole("link", { name: "Account of Anna" })).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Sign out" }));
    expect(await screen.findByRole("link", { name: "Sign in" })).toBeVisible();
  });
});

describe("my shows", () => {
  it("asks people to sign in first", async () => {
    await visit("/host");
    expect(await screen.findByRole("heading", { name: "Sign in" })).toBeVisible();
  });

  it("creates a show and opens its console", async () => {
    const made = broadcast({
      id: "new",
      title: "Harbour",
      status: "scheduled",
      startedAt: null,
      yourRole: "host",
    });
    const { calls } = await visit("/host", {
      user,
      answer: (call) => {
        if (call.method === "POST") return { status: 201, body: made };
        return call.path === "/api/broadcasts/new" ? { body: made } : null;
      },
    });
    await userEvent.type(await screen.findByLabelText("Title"), "Harbour");
    await userEvent.click(screen.getByRole("radio", { name: "Anyone with the link" }));
    await userEvent.click(screen.getByRole("checkbox", { name: "Record the whole show" }));
    await userEvent.click(screen.getByRole("button", { name: "Create show" }));
    expect(await screen.findByRole("button", { name: "Go live" })).toBeVisible();
    expect(calls.find((call) => call.method === "POST")?.body).toEqual({
      title: "Harbour",
      visibility: "unlisted",
      recordingEnabled: true,
    });
  });

  it("does not take a start in the past", async () => {
    const { calls } = await visit("/host", { user });
    await userEvent.type(await screen.findByLabelText("Title"), "Harbour");
    const time = screen.getByLabelText(/Start time/);
    await userEvent.type(time, "2001-01-01T10:00");
    await userEvent.click(screen.getByRole("button", { name: "Create show" }));
    expect(time).toBeInvalid();
    expect(calls.some((call) => call.method === "POST")).toBe(false);
  });
});

it("has a page for addresses that lead nowhere", async () => {
  await visit("/nowhere");
  expect(screen.getByRole("heading", { name: "There is no such page" })).toBeVisible();
});

describe("where a sign-in leads", () => {
  it("is nowhere but this site", () => {
    expect(safeNext("/b/1?x=2#invite=abc")).toBe("/b/1?x=2#invite=abc");
    for (const next of [
      null,
      "",
      "b/1",
      "https://evil.example/",
      "//evil.example/",
      "/\\evil.example",
      "/\t/evil.example",
      "/\n/evil.example",
      "\t//evil.example",
      "javascript:alert(1)",
    ])
      expect(safeNext(next)).toBe("/");
  });
});

describe("a new show", () => {
  it("is made once, however often the button has to be pressed", async () => {
    const lost = new TypeError("Failed to fetch");
    const answers: (Error | object)[] = [
      lost,
      lost,
      { status: 503, body: { code: "database_busy", detail: "Try again." } },
      { status: 409, body: { code: "request_repeated", detail: "Send it again." } },
      { status: 422, body: { code: "invalid_input", detail: "No." } },
    ];
    const { calls } = await visit("/host?new", {
      user,
      answer: (call) => (call.method === "POST" ? ((answers.shift() as Error) ?? null) : null),
    });
    await userEvent.type(await screen.findByLabelText("Title"), "Morning");
    const press = async (message: RegExp) => {
      await userEvent.click(screen.getByRole("button", { name: "Create show" }));
      expect(await screen.findByText(message, {}, { timeout: 5000 })).toBeVisible();
    };
    const keys = () =>
      calls.filter((c) => c.method === "POST").map((c) => c.headers["Idempotency-Key"]);
    await press(/did not answer/);
    await press(/Send it again/);
    expect(keys()).toHaveLength(4);
    expect(new Set(keys()).size).toBe(1);
    await userEvent.type(screen.getByLabelText("Title"), " coffee");
    await press(/No\./);
    expect(new Set(keys()).size).toBe(2);
  }, 15_000);
});
