import { messageOf } from "@lac/client";
import { useState } from "react";
import { Link, useLocation } from "react-router";
import { PageState } from "../components/PageState";
import { useSubmit } from "../lib/submit";
import { useLac } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Card } from "../ui/Card";
import { TextField } from "../ui/Field";
import { Form } from "../ui/Form";
import { Notice } from "../ui/Notice";

export default function ForgotPasswordPage() {
  const { api } = useLac();
  const typed = (useLocation().state as { email?: unknown } | null)?.email;
  const [email, setEmail] = useState(typeof typed === "string" ? typed : "");
  const [sentTo, setSentTo] = useState<string | null>(null);
  const submit = useSubmit();

  async function send() {
    const address = email.trim();
    const done = await submit.run({
      wrong: {
        email: address.includes("@")
          ? undefined
          : "Write an e-mail address, such as ana@example.org.",
      },
      fields: ["email"],
      work: () => api.requestPasswordReset(address),
    });
    if (done) setSentTo(address);
  }

  if (sentTo !== null) {
    return (
      <>
        <title>Look into your mail · LiveAudioCast</title>
        <PageState
          takesFocus
          title="Look into your mail"
          action={
            <>
              <ButtonLink to="/login" look="primary">
                Back to sign in
              </ButtonLink>
              <Button onClick={() => setSentTo(null)}>Use another address</Button>
            </>
          }
        >
          <p>
            If there is an account for <b className="break-words text-ink">{sentTo}</b>, a link to
            choose a new password is on its way. It works once, for one hour.
          </p>
          <p className="mt-3">
            Nothing there? Look into the spam folder, or ask whoever runs this server.
          </p>
        </PageState>
      </>
    );
  }

  return (
    <div className="mx-auto max-w-md py-4 sm:py-8">
      <title>Forgot your password? · LiveAudioCast</title>
      <h1 className="mb-2 text-3xl font-semibold tracking-tight">Forgot your password?</h1>
      <p className="mb-5 text-muted">
        Write the address of your account. You get a link to choose a new password.
      </p>
      <Card>
        <Form submit={submit} onSubmit={send}>
          {submit.problem && <Notice tone="error">{messageOf(submit.problem)}</Notice>}
          <TextField
            label="E-mail"
            type="email"
            name="email"
            autoComplete="username"
            required
            value={email}
            error={submit.errors.email}
            onChange={(event) => setEmail(event.target.value)}
          />
          <Button type="submit" look="primary" busy={submit.busy} className="mt-1">
            Send the link
          </Button>
        </Form>
      </Card>
      <p className="mt-5 text-center text-muted">
        Remembered it?{" "}
        <Link className="text-accent underline" to="/login">
          Sign in
        </Link>
      </p>
    </div>
  );
}
