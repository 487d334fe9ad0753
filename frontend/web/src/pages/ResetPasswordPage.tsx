import { ApiError, messageOf, newPasswordProblem, PASSWORD_MIN } from "@lac/client";
import { useState } from "react";
import { PageState } from "../components/PageState";
import { useLinkToken } from "../lib/hooks";
import { useSubmit } from "../lib/submit";
import { useLac, useUser } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Card } from "../ui/Card";
import { PasswordField } from "../ui/Field";
import { Form } from "../ui/Form";
import { Notice } from "../ui/Notice";

const askAgain = (
  <ButtonLink to="/forgot-password" look="primary">
    Ask for a new link
  </ButtonLink>
);

export default function ResetPasswordPage() {
  const token = useLinkToken();
  return (
    <>
      <title>Choose a new password · LiveAudioCast</title>
      {token ? (
        <Reset key={token} token={token} />
      ) : (
        <PageState title="This link is not complete" action={askAgain}>
          Copy the whole link from the mail. It ends in a long token.
        </PageState>
      )}
    </>
  );
}

function Reset({ token }: { token: string }) {
  const { api, auth } = useLac();
  const user = useUser();
  const submit = useSubmit();
  const [password, setPassword] = useState("");
  const [state, setState] = useState<"open" | "done" | "invalid">("open");

  async function send() {
    const done = await submit.run({
      wrong: { password: newPasswordProblem(password) },
      fields: ["password"],
      work: async () => {
        try {
          await api.confirmPasswordReset({ token, password });
        } catch (error) {
          if (!isBadToken(error)) throw error;
          setState("invalid");
          return;
        }
        setState("done");
      },
    });
    // If it was this account that is signed in here, that has ended too: find out.
    if (done && auth.store.getState().user) {
      await api
        .me()
        .then(auth.setUser)
        .catch(() => undefined);
    }
  }

  if (state === "done") {
    return (
      <PageState
        takesFocus
        title="Your new password is set"
        action={
          user ? (
            <ButtonLink to="/" look="primary">
              To the front page
            </ButtonLink>
          ) : (
            <ButtonLink to="/login" look="primary">
              Sign in
            </ButtonLink>
          )
        }
      >
        Every device that was signed in to the account has been signed out.
      </PageState>
    );
  }
  if (state === "invalid") {
    return (
      <PageState
        takesFocus
        title="This link does not work any more"
        action={
          <>
            {askAgain}
            {!user && <ButtonLink to="/login">Sign in</ButtonLink>}
          </>
        }
      >
        It has been used, or it has expired: a link works once, for one hour. If you have set your
        new password already, sign in with it.
      </PageState>
    );
  }
  return (
    <div className="mx-auto max-w-md py-4 sm:py-8">
      <h1 className="mb-2 text-3xl font-semibold tracking-tight">Choose a new password</h1>
      <p className="mb-5 text-muted">Every device signed in to the account will be signed out.</p>
      <Card>
        <Form submit={submit} onSubmit={send}>
          {submit.problem && <Notice tone="error">{messageOf(submit.problem)}</Notice>}
          <PasswordField
            label="New password"
            name="password"
            autoComplete="new-password"
            required
            hint={`At least ${PASSWORD_MIN} characters.`}
            value={password}
            error={submit.errors.password}
            onChange={(event) => setPassword(event.target.value)}
          />
          <Button type="submit" look="primary" busy={submit.busy} className="mt-1">
            Set new password
          </Button>
        </Form>
      </Card>
    </div>
  );
}

/** Used, expired, or nothing that could be a token. */
function isBadToken(error: unknown): boolean {
  return (
    error instanceof ApiError &&
    (error.code === "reset_token_invalid" || error.fields.token !== undefined)
  );
}
