import { act, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Call, user, visit } from "./world";

type Answer = { status?: number; body?: unknown } | Error;

const problem = (status: number, code: string, detail: string, more: object = {}): Answer => ({
  status,
  body: { code, detail, status, ...more },
});
const done: Answer = { status: 204 };
/** Answers by "METHOD path". */
const answers = (table: Record<string, Answer | (() => Answer)>) => ({
  answer: (call: Call) => {
    const found = table[`${call.method} ${call.path}`];
    return typeof found === "function" ? found() : (found ?? null);
  },
});
const body = (calls: Call[], path: string) => calls.find((call) => call.path === path)?.body;
const press = async (name: string) => userEvent.click(await screen.findByRole("button", { name }));

const unverified = { ...user, email: "ana@example.org", emailVerified: false };
const verified = { ...unverified, emailVerified: true };

describe("a forgotten password", () => {
  const REQUEST = "/api/auth/password-reset/request";

  it("is asked for from the sign-in page, which passes on the address", async () => {
    const { calls } = await visit("/login", answers({ [`POST ${REQUEST}`]: { status: 202 } }));
    await userEvent.type(await screen.findByLabelText("E-mail"), "ana@example.org");
    await userEvent.click(screen.getByRole("link", { name: "Forgot your password?" }));
    await screen.findByRole("heading", { name: "Forgot your password?" });
    expect(screen.getByLabelText("E-mail")).toHaveValue("ana@example.org");
    await press("Send the link");
    const heading = await screen.findByRole("heading", { name: "Look into your mail" });
    expect(heading).toHaveFocus();
    expect(screen.getByText(/If there is an account for/)).toHaveTextContent("ana@example.org");
    expect(body(calls, REQUEST)).toEqual({ email: "ana@example.org" });
  });

  it("can be asked for with another address", async () => {
    await visit("/forgot-password", answers({ [`POST ${REQUEST}`]: { status: 202 } }));
    await userEvent.type(await screen.findByLabelText("E-mail"), "an@example.org{Enter}");
    await press("Use another address");
    expect(screen.getByLabelText("E-mail")).toHaveValue("an@example.org");
  });

  it("needs an address", async () => {
    const { calls } = await visit("/forgot-password");
    await press("Send the link");
    expect(screen.getByLabelText("E-mail")).toBeInvalid();
    expect(screen.getByLabelText("E-mail")).toHaveFocus();
    expect(calls).toHaveLength(0);
  });

  it("says when it was asked for too often", async () => {
    await visit(
      "/forgot-password",
      answers({ [`POST ${REQUEST}`]: problem(429, "rate_limited", "Try again in a minute.") }),
    );
    await userEvent.type(await screen.findByLabelText("E-mail"), "ana@example.org{Enter}");
    expect(await screen.findByRole("alert")).toHaveTextContent("Try again in a minute.");
    expect(screen.getByRole("button", { name: "Send the link" })).toBeVisible();
  });
});

describe("a link for a new password", () => {
  const CONFIRM = "/api/auth/password-reset/confirm";
  const INVALID = problem(403, "reset_token_invalid", "This link has been used or has expired.");

  it("sets it with the token behind the #", async () => {
    const { calls } = await visit(
      "/reset-password#token=once",
      answers({ [`POST ${CONFIRM}`]: done }),
    );
    await userEvent.type(await screen.findByLabelText("New password"), "correct horse{Enter}");
    const heading = await screen.findByRole("heading", { name: "Your new password is set" });
    expect(heading).toHaveFocus();
    expect(within(screen.getByRole("main")).getByRole("link", { name: "Sign in" })).toBeVisible();
    expect(body(calls, CONFIRM)).toEqual({ token: "once", password: "correct horse" });
  });

  it("signs out here too if it was this account", async () => {
    const refused = problem(401, "not_signed_in", "Sign in to do this.");
    const { lac } = await visit("/reset-password#token=once", {
      user,
      ...answers({
        [`POST ${CONFIRM}`]: done,
        "GET /api/auth/me": refused,
        "POST /api/auth/refresh": refused,
      }),
    });
    await userEvent.type(await screen.findByLabelText("New password"), "correct horse{Enter}");
    await screen.findByRole("heading", { name: "Your new password is set" });
    await waitFor(() => expect(lac.auth.store.getState().user).toBeNull());
    expect(within(screen.getByRole("main")).getByRole("link", { name: "Sign in" })).toBeVisible();
  });

  it("leaves somebody else signed in", async () => {
    const { lac } = await visit("/reset-password#token=once", {
      user,
      ...answers({ [`POST ${CONFIRM}`]: done, "GET /api/auth/me": { body: user } }),
    });
    await userEvent.type(await screen.findByLabelText("New password"), "correct horse{Enter}");
    expect(await screen.findByRole("link", { name: "To the front page" })).toBeVisible();
    expect(lac.auth.store.getState().user).toEqual(user);
  });

  it("offers another link when it has been used or has expired", async () => {
    await visit("/reset-password#token=once", answers({ [`POST ${CONFIRM}`]: INVALID }));
    await userEvent.type(await screen.findByLabelText("New password"), "correct horse{Enter}");
    const heading = await screen.findByRole("heading", {
      name: "This link does not work any more",
    });
    expect(heading).toHaveFocus();
    await userEvent.click(screen.getByRole("link", { name: "Ask for a new link" }));
    expect(await screen.findByRole("heading", { name: "Forgot your password?" })).toBeVisible();
  });

  it("says so when it is not complete", async () => {
    await visit("/reset-password");
    expect(await screen.findByRole("heading", { name: "This link is not complete" })).toBeVisible();
    expect(screen.getByRole("link", { name: "Ask for a new link" })).toBeVisible();
  });

  it("does not send a short password, and shows what was typed when asked to", async () => {
    const { calls } = await visit("/reset-password#token=once");
    const field = await screen.findByLabelText("New password");
    await userEvent.type(field, "short{Enter}");
    expect(field).toBeInvalid();
    expect(field).toHaveFocus();
    expect(field).toHaveAccessibleDescription(/at least 10 characters/i);
    expect(calls).toHaveLength(0);
    await press("Show new password");
    expect(field).toHaveAttribute("type", "text");
    await press("Hide new password");
    expect(field).toHaveAttribute("type", "password");
  });

  it("shows the server's word on the password beside it, and takes another", async () => {
    let first = true;
    await visit(
      "/reset-password#token=once",
      answers({
        [`POST ${CONFIRM}`]: () => {
          if (!first) return done;
          first = false;
          return problem(422, "invalid_input", "Not good.", {
            errors: [{ field: "password", message: "is too common" }],
          });
        },
      }),
    );
    const field = await screen.findByLabelText("New password");
    await userEvent.type(field, "correct horse{Enter}");
    await waitFor(() => expect(field).toHaveAccessibleDescription(/is too common/));
    await userEvent.type(field, " battery{Enter}");
    expect(await screen.findByRole("heading", { name: "Your new password is set" })).toBeVisible();
  });

  it("can be tried again when the server does not answer", async () => {
    await visit(
      "/reset-password#token=once",
      answers({ [`POST ${CONFIRM}`]: new TypeError("no") }),
    );
    await userEvent.type(await screen.findByLabelText("New password"), "correct horse{Enter}");
    expect(await screen.findByRole("alert")).toHaveTextContent(/did not answer/);
    expect(screen.getByLabelText("New password")).toHaveValue("correct horse");
  });
});

describe("a link that confirms an address", () => {
  const VERIFY = "/api/auth/verify-email";
  const INVALID = problem(403, "verify_token_invalid", "This link has expired.");

  it("does so when the button is pressed, and not before", async () => {
    const { calls, lac } = await visit("/verify-email#token=mail", {
      user: unverified,
      ...answers({ [`POST ${VERIFY}`]: done, "GET /api/auth/me": { body: verified } }),
    });
    await screen.findByRole("button", { name: "Confirm my address" });
    expect(calls).toHaveLength(0);
    await press("Confirm my address");
    const heading = await screen.findByRole("heading", {
      name: "Your e-mail address is confirmed",
    });
    expect(heading).toHaveFocus();
    expect(body(calls, VERIFY)).toEqual({ token: "mail" });
    await waitFor(() => expect(lac.auth.store.getState().user?.emailVerified).toBe(true));
  });

  it("works for people who are not signed in", async () => {
    await visit("/verify-email#token=mail", answers({ [`POST ${VERIFY}`]: done }));
    await press("Confirm my address");
    await screen.findByRole("heading", { name: "Your e-mail address is confirmed" });
    expect(within(screen.getByRole("main")).getByRole("link", { name: "Sign in" })).toBeVisible();
  });

  it("sends another when it has expired", async () => {
    const { calls } = await visit("/verify-email#token=mail", {
      user: unverified,
      ...answers({ [`POST ${VERIFY}`]: INVALID, [`POST ${VERIFY}/request`]: { status: 202 } }),
    });
    await press("Confirm my address");
    expect(await screen.findByRole("heading", { name: "This link does not work" })).toHaveFocus();
    await press("Send the link again");
    expect(await screen.findByText(/A link is on its way to ana@example.org/)).toBeVisible();
    expect(calls.some((call) => call.path === `${VERIFY}/request`)).toBe(true);
  });

  it("asks people to sign in for another, and leads to the account", async () => {
    await visit("/verify-email#token=mail", answers({ [`POST ${VERIFY}`]: INVALID }));
    await press("Confirm my address");
    expect(await screen.findByRole("link", { name: "Sign in for a new link" })).toHaveAttribute(
      "href",
      "/login?next=/account",
    );
  });

  it("offers no other to those who need none", async () => {
    await visit("/verify-email", { user: verified });
    expect(await screen.findByRole("heading", { name: "This link is not complete" })).toBeVisible();
    expect(screen.getByText("Your own address is confirmed already.")).toBeVisible();
  });

  it("can be pressed again when the server does not answer", async () => {
    await visit("/verify-email#token=mail", answers({ [`POST ${VERIFY}`]: new TypeError("no") }));
    await press("Confirm my address");
    expect(await screen.findByRole("alert")).toHaveTextContent(/did not answer/);
    expect(screen.getByRole("button", { name: "Confirm my address" })).toBeVisible();
  });
});

it("sets up the first admin with a token behind the #", async () => {
  const signedIn = { user, accessToken: "a", refreshToken: "r", expiresIn: 900 };
  const { calls } = await visit(
    "/setup#token=once",
    answers({ "POST /api/auth/setup": { body: signedIn } }),
  );
  await userEvent.type(await screen.findByLabelText("Display name"), "Ana");
  await userEvent.type(screen.getByLabelText("E-mail"), "ana@example.org");
  await userEvent.type(screen.getByLabelText("Password"), "correct horse{Enter}");
  await screen.findByRole("heading", { name: "My shows" });
  expect(body(calls, "/api/auth/setup")).toMatchObject({ token: "once" });
});

describe("the address of the account", () => {
  const REQUEST = "POST /api/auth/verify-email/request";

  it("is confirmed, which may be news from another device", async () => {
    await visit("/account", {
      user: unverified,
      ...answers({ "GET /api/auth/me": { body: verified } }),
    });
    const section = await screen.findByRole("region", { name: "E-mail" });
    expect(await within(section).findByText("Confirmed")).toBeVisible();
    expect(within(section).queryByRole("button")).not.toBeInTheDocument();
  });

  it("gets another link", async () => {
    await visit("/account", { user: unverified, ...answers({ [REQUEST]: { status: 202 } }) });
    const section = await screen.findByRole("region", { name: "E-mail" });
    expect(within(section).getByText(/Not confirmed yet/)).toBeVisible();
    await press("Send the link again");
    await waitFor(() =>
      expect(within(section).getByRole("status")).toHaveTextContent(
        "on its way to ana@example.org",
      ),
    );
  });

  it("has had enough links", async () => {
    const limit = problem(429, "mail_limit", "You have been sent several links.");
    await visit("/account", { user: unverified, ...answers({ [REQUEST]: limit }) });
    await press("Send the link again");
    expect(await screen.findByRole("alert")).toHaveTextContent("You have been sent several links.");
  });
});

describe("changing the password", () => {
  const PATH = "/api/auth/password";
  async function change(answer: Answer, next = "correct horse") {
    const world = await visit("/account", {
      user: verified,
      ...answers({ [`POST ${PATH}`]: answer }),
    });
    await userEvent.type(await screen.findByLabelText("Current password"), "old horse");
    await userEvent.type(screen.getByLabelText("New password"), `${next}{Enter}`);
    return world;
  }

  it("works, and empties the fields", async () => {
    const { calls } = await change(done);
    expect(await screen.findByText("Changed. Every other device is signed out.")).toBeVisible();
    expect(screen.getByLabelText("Current password")).toHaveValue("");
    expect(screen.getByLabelText("New password")).toHaveValue("");
    expect(body(calls, PATH)).toEqual({
      currentPassword: "old horse",
      newPassword: "correct horse",
    });
  });

  it("needs the current one", async () => {
    await change(problem(403, "wrong_password", "The password is wrong."));
    const current = screen.getByLabelText("Current password");
    await waitFor(() => expect(current).toHaveFocus());
    expect(current).toHaveAccessibleDescription("The password is wrong.");
  });

  it("needs a long one", async () => {
    const { calls } = await change(done, "short");
    expect(screen.getByLabelText("New password")).toBeInvalid();
    expect(body(calls, PATH)).toBeUndefined();
  });
});

describe("signing out everywhere", () => {
  it("ends the session here too", async () => {
    const { lac } = await visit("/account", {
      user: verified,
      ...answers({ "POST /api/auth/logout-all": done }),
    });
    await press("Sign out everywhere");
    const heading = await screen.findByRole("heading", { name: "You are signed out everywhere" });
    expect(heading).toHaveFocus();
    expect(lac.auth.store.getState()).toEqual({ user: null, expired: false });
  });

  it("stays signed in when it did not work", async () => {
    const down = problem(503, "database_busy", "The server is busy.");
    const { lac } = await visit("/account", {
      user: verified,
      ...answers({ "POST /api/auth/logout-all": down }),
    });
    await press("Sign out everywhere");
    expect(await screen.findByRole("alert")).toHaveTextContent("The server is busy.");
    expect(lac.auth.store.getState().user).toEqual(verified);
  });
});

describe("taking one's data along", () => {
  let saved: { name: string; blob: Blob }[] = [];
  beforeEach(() => {
    saved = [];
    let latest = new Blob();
    URL.createObjectURL = vi.fn((blob: Blob) => {
      latest = blob;
      return "blob:x";
    }) as typeof URL.createObjectURL;
    URL.revokeObjectURL = vi.fn();
    vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (
      this: HTMLAnchorElement,
    ) {
      saved.push({ name: this.download, blob: latest });
    });
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("saves a file", async () => {
    const data = { exportedAt: "2026-01-01T08:00:00Z", account: { email: "ana@example.org" } };
    await visit("/account", {
      user: verified,
      ...answers({ "GET /api/auth/me/export": { body: data } }),
    });
    // Not userEvent, which clicks by way of what is replaced here.
    fireEvent.click(await screen.findByRole("button", { name: "Download my data" }));
    expect(await screen.findByText("Downloaded.")).toBeVisible();
    expect(saved).toHaveLength(1);
    expect(saved[0]?.name).toBe("liveaudiocast-export.json");
    const text = await new Promise<string>((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(String(reader.result));
      reader.readAsText(saved[0]?.blob ?? new Blob());
    });
    expect(JSON.parse(text)).toEqual(data);
  });

  it("says when it did not work", async () => {
    await visit("/account", {
      user: verified,
      ...answers({ "GET /api/auth/me/export": problem(503, "database_timeout", "Too slow.") }),
    });
    await press("Download my data");
    expect(await screen.findByRole("alert")).toHaveTextContent("Too slow.");
    expect(saved).toHaveLength(0);
  });
});

describe("deleting the account", () => {
  async function open(answer: Answer) {
    const world = await visit("/account", {
      user: verified,
      ...answers({ "DELETE /api/auth/me": answer }),
    });
    await press("Delete my account");
    const dialog = screen.getByRole("dialog", { name: "Delete your account?" });
    return { ...world, dialog, field: within(dialog).getByLabelText("Your password") };
  }

  it("says what goes and what stays, and starts in the field", async () => {
    const { dialog, field, calls } = await open(done);
    expect(field).toHaveFocus();
    expect(dialog).toHaveAccessibleDescription(/What goes.*shows that you host.*What stays/);
    await userEvent.click(within(dialog).getByRole("button", { name: "Keep my account" }));
    expect(screen.queryByRole("dialog")).not.toBeInTheDocument();
    expect(calls.some((call) => call.method === "DELETE")).toBe(false);
  });

  it("is done with the password", async () => {
    const { field, calls, lac } = await open(done);
    await userEvent.type(field, "old horse{Enter}");
    expect(await screen.findByRole("heading", { name: "Your account is deleted" })).toHaveFocus();
    expect(calls.find((call) => call.method === "DELETE")?.body).toEqual({ password: "old horse" });
    expect(lac.auth.store.getState()).toEqual({ user: null, expired: false });
  });

  it("needs the password", async () => {
    const { dialog, field, calls } = await open(done);
    await userEvent.click(within(dialog).getByRole("button", { name: "Delete for good" }));
    expect(field).toBeInvalid();
    expect(calls.some((call) => call.method === "DELETE")).toBe(false);
  });

  it("is refused with a wrong password", async () => {
    const { field } = await open(problem(403, "wrong_password", "The password is wrong."));
    await userEvent.type(field, "nope{Enter}");
    await waitFor(() => expect(field).toHaveAccessibleDescription("The password is wrong."));
    expect(field).toHaveFocus();
  });

  it("is refused while a show is live, with the way there", async () => {
    const { dialog, field } = await open(
      problem(409, "show_is_live", "Your show “Morning” is live. End it first."),
    );
    await userEvent.type(field, "old horse{Enter}");
    const alert = await within(dialog).findByRole("alert");
    expect(alert).toHaveTextContent("Your show “Morning” is live. End it first.");
    act(() => within(alert).getByRole("link", { name: "To my shows" }).click());
    expect(await screen.findByRole("heading", { name: "My shows" })).toBeVisible();
  });

  it("is refused to the only administrator", async () => {
    const { dialog, field } = await open(
      problem(409, "last_admin", "You are the only administrator of this server."),
    );
    await userEvent.type(field, "old horse{Enter}");
    expect(await within(dialog).findByRole("alert")).toHaveTextContent("only administrator");
    expect(within(dialog).queryByRole("link")).not.toBeInTheDocument();
  });
});
