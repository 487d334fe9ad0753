import { ApiError, messageOf } from "@lac/client";
import { useState } from "react";
import { PageState } from "../components/PageState";
import { SendLinkAgain } from "../components/SendLinkAgain";
import { useLinkToken } from "../lib/hooks";
import { useLac, useUser } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Notice } from "../ui/Notice";

export default function VerifyEmailPage() {
  const token = useLinkToken();
  return (
    <>
      <title>Confirm your e-mail address · LiveAudioCast</title>
      {token ? (
        <Verify key={token} token={token} />
      ) : (
        <PageState title="This link is not complete" action={<AnotherLink />}>
          Copy the whole link from the mail. It ends in a long token.
        </PageState>
      )}
    </>
  );
}

/** Confirms when the button is pressed, not before: programs that look into mails open links too. */
function Verify({ token }: { token: string }) {
  const { api, auth } = useLac();
  const user = useUser();
  const [state, setState] = useState<"open" | "busy" | "done" | "invalid">("open");
  const [problem, setProblem] = useState<string | null>(null);

  async function confirm() {
    setState("busy");
    setProblem(null);
    try {
      await api.verifyEmail(token);
    } catch (error) {
      const invalid =
        error instanceof ApiError &&
        (error.code === "verify_token_invalid" || error.fields.token !== undefined);
      setState(invalid ? "invalid" : "open");
      if (!invalid) setProblem(messageOf(error));
      return;
    }
    setState("done");
    // The account that is signed in here is probably the one.
    if (auth.store.getState().user)
      await api
        .me()
        .then(auth.setUser)
        .catch(() => undefined);
  }

  if (state === "done") {
    return (
      <PageState
        takesFocus
        title="Your e-mail address is confirmed"
        action={
          <>
            <ButtonLink to={user ? "/host" : "/login"} look="primary">
              {user ? "To my shows" : "Sign in"}
            </ButtonLink>
            <ButtonLink to="/">Front page</ButtonLink>
          </>
        }
      >
        Thank you. There is nothing more to do.
      </PageState>
    );
  }
  if (state === "invalid") {
    return (
      <PageState takesFocus title="This link does not work" action={<AnotherLink />}>
        It has expired, or it is not complete: a link works for three days.
      </PageState>
    );
  }
  return (
    <PageState
      title="Confirm your e-mail address"
      action={
        <Button look="primary" size="large" busy={state === "busy"} onClick={() => void confirm()}>
          Confirm my address
        </Button>
      }
    >
      <p>Press the button to say that the mail with this link reached you.</p>
      {problem && (
        <div className="mt-4 text-left">
          <Notice tone="error">{problem}</Notice>
        </div>
      )}
    </PageState>
  );
}

/** Links are sent to those who are signed in. */
function AnotherLink() {
  const user = useUser();
  if (!user) {
    return (
      <ButtonLink to="/login?next=/account" look="primary">
        Sign in for a new link
      </ButtonLink>
    );
  }
  if (user.emailVerified) {
    return (
      <div className="grid justify-items-center gap-3">
        <p className="text-muted">Your own address is confirmed already.</p>
        <ButtonLink to="/account">Account</ButtonLink>
      </div>
    );
  }
  return <SendLinkAgain centred />;
}
