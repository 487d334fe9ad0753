import { messageOf, NAME_MAX, newPasswordProblem, PASSWORD_MIN } from "@lac/client";
import { useCallback, useEffect, useState } from "react";
import { useNavigate } from "react-router";
import { DeleteAccount } from "../components/DeleteAccount";
import { PageState } from "../components/PageState";
import { RequireUser } from "../components/RequireUser";
import { SendLinkAgain } from "../components/SendLinkAgain";
import { saveJson } from "../lib/download";
import { useWakeUp } from "../lib/hooks";
import { useSubmit } from "../lib/submit";
import { useLac, useUser } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Card } from "../ui/Card";
import { PasswordField, TextField } from "../ui/Field";
import { Form } from "../ui/Form";
import { CheckIcon, WarnIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";

type Farewell = "signedOut" | "deleted";

export default function AccountPage() {
  const [farewell, setFarewell] = useState<Farewell | null>(null);
  if (farewell === "deleted") {
    return (
      <PageState
        takesFocus
        title="Your account is deleted"
        action={
          <ButtonLink to="/" look="primary">
            To the front page
          </ButtonLink>
        }
      >
        <title>Account deleted · LiveAudioCast</title>
        Thank you for having been here. You can still listen to public shows.
      </PageState>
    );
  }
  if (farewell === "signedOut") {
    return (
      <PageState
        takesFocus
        title="You are signed out everywhere"
        action={
          <ButtonLink to="/login" look="primary">
            Sign in
          </ButtonLink>
        }
      >
        <title>Signed out · LiveAudioCast</title>
        On this device and on every other one.
      </PageState>
    );
  }
  return (
    <RequireUser>
      <title>Account · LiveAudioCast</title>
      <Account onLeave={setFarewell} />
    </RequireUser>
  );
}

function Account({ onLeave }: { onLeave: (how: Farewell) => void }) {
  const { api, auth } = useLac();
  // The address may have been confirmed on another device since.
  const renew = useCallback(() => {
    void api
      .me()
      .then(auth.setUser)
      .catch(() => undefined);
  }, [api, auth]);
  useEffect(renew, [renew]);
  useWakeUp(renew);
  return (
    <div className="mx-auto max-w-md py-4 sm:py-8 lg:max-w-4xl">
      <h1 className="mb-5 text-3xl font-semibold tracking-tight">Account</h1>
      <div className="grid items-start gap-5 lg:grid-cols-2">
        <div className="grid gap-5">
          <Name />
          <Email />
          <Password />
        </div>
        <div className="grid gap-5">
          <SignOut onDone={() => onLeave("signedOut")} />
          <Data />
          <DeleteAccount onDone={() => onLeave("deleted")} />
        </div>
      </div>
    </div>
  );
}

function Name() {
  const { api, auth } = useLac();
  const user = useUser();
  const submit = useSubmit();
  const [name, setName] = useState(user?.displayName ?? "");
  const [saved, setSaved] = useState(false);

  async function save() {
    const displayName = name.trim();
    setSaved(false);
    const done = await submit.run({
      wrong: { displayName: displayName === "" ? "Write the name people see." : undefined },
      fields: ["displayName"],
      work: async () => auth.setUser(await api.updateMe({ displayName })),
    });
    setSaved(done);
  }

  return (
    <Card title="Your name">
      <Form submit={submit} onSubmit={save}>
        {submit.problem && <Notice tone="error">{messageOf(submit.problem)}</Notice>}
        <TextField
          label="Display name"
          required
          autoComplete="nickname"
          maxLength={NAME_MAX}
          hint="Shown with your shows and messages."
          value={name}
          error={submit.errors.displayName}
          onChange={(event) => {
            setName(event.target.value);
            setSaved(false);
          }}
        />
        <div className="flex items-center gap-3">
          <Button type="submit" look="primary" busy={submit.busy}>
            Save
          </Button>
          <span role="status" className="text-muted">
            {saved && "Saved."}
          </span>
        </div>
      </Form>
    </Card>
  );
}

function Email() {
  const user = useUser();
  return (
    <Card title="E-mail">
      <p className="break-words font-medium">{user?.email}</p>
      {user?.emailVerified === true && (
        <p className="mt-1 flex items-center gap-2 text-muted">
          <CheckIcon className="shrink-0 text-accent" />
          Confirmed
        </p>
      )}
      {user?.emailVerified === false && (
        <>
          <p className="mt-1 mb-4 flex items-start gap-2 text-muted">
            <WarnIcon className="mt-0.5 shrink-0 text-warn" />
            Not confirmed yet. Open the link in the mail that we sent you.
          </p>
          <SendLinkAgain />
        </>
      )}
    </Card>
  );
}

const EMPTY = { currentPassword: "", newPassword: "" };

function Password() {
  const { api } = useLac();
  const user = useUser();
  const submit = useSubmit();
  const [values, setValues] = useState(EMPTY);
  const [changed, setChanged] = useState(false);

  async function change() {
    setChanged(false);
    const done = await submit.run({
      wrong: {
        currentPassword: values.currentPassword === "" ? "Write your current password." : undefined,
        newPassword: newPasswordProblem(values.newPassword),
      },
      fields: ["currentPassword", "newPassword"],
      codes: { wrong_password: "currentPassword" },
      work: () => api.changePassword(values),
    });
    setChanged(done);
    if (done) setValues(EMPTY);
  }

  const field = (name: keyof typeof EMPTY) => ({
    name,
    required: true,
    value: values[name],
    error: submit.errors[name],
    onChange: (event: { target: { value: string } }) => {
      setValues({ ...values, [name]: event.target.value });
      setChanged(false);
    },
  });

  return (
    <Card title="Change password">
      <Form submit={submit} onSubmit={change}>
        {submit.problem && <Notice tone="error">{messageOf(submit.problem)}</Notice>}
        {/* For password managers, which file the password under it. */}
        <input
          hidden
          readOnly
          type="text"
          name="username"
          autoComplete="username"
          value={user?.email ?? ""}
        />
        <PasswordField
          label="Current password"
          autoComplete="current-password"
          {...field("currentPassword")}
        />
        <PasswordField
          label="New password"
          autoComplete="new-password"
          hint={`At least ${PASSWORD_MIN} characters. Every other device will be signed out.`}
          {...field("newPassword")}
        />
        <div className="flex flex-wrap items-center gap-3">
          <Button type="submit" look="primary" busy={submit.busy}>
            Change password
          </Button>
          <span role="status" className="text-muted">
            {changed && "Changed. Every other device is signed out."}
          </span>
        </div>
      </Form>
    </Card>
  );
}

function SignOut({ onDone }: { onDone: () => void }) {
  const { api, auth } = useLac();
  const user = useUser();
  const navigate = useNavigate();
  const submit = useSubmit();
  return (
    <Card title="Signed in">
      <p className="mb-4 break-words text-muted">
        {user?.email ? <>As {user.email}</> : "On this device"}
        {user?.isAdmin && " (administrator)"}. Lost a device, or somebody else used your account?
        Sign out everywhere, and change your password.
      </p>
      {submit.problem && (
        <div className="mb-4">
          <Notice tone="error">{messageOf(submit.problem)}</Notice>
        </div>
      )}
      <div className="flex flex-wrap gap-2">
        <Button
          onClick={async () => {
            await auth.logout();
            navigate("/");
          }}
        >
          Sign out
        </Button>
        <Button
          busy={submit.busy}
          onClick={() =>
            submit.run({
              work: async () => {
                await api.logoutEverywhere();
                onDone();
                await auth.forget();
              },
            })
          }
        >
          Sign out everywhere
        </Button>
      </div>
    </Card>
  );
}

function Data() {
  const { api } = useLac();
  const submit = useSubmit();
  const [saved, setSaved] = useState(false);

  async function download() {
    setSaved(false);
    const done = await submit.run({
      work: async () => saveJson("liveaudiocast-export.json", await api.exportAccount()),
    });
    setSaved(done);
  }

  return (
    <Card title="Your data">
      <p className="mb-4 text-muted">
        Everything that this server keeps about you, in one JSON file: your account, shows, messages
        and sign-ins.
      </p>
      {submit.problem && (
        <div className="mb-4">
          <Notice tone="error">{messageOf(submit.problem)}</Notice>
        </div>
      )}
      <div className="flex flex-wrap items-center gap-3">
        <Button busy={submit.busy} onClick={() => void download()}>
          Download my data
        </Button>
        <span role="status" className="text-muted">
          {submit.busy ? "Collecting…" : saved && "Downloaded."}
        </span>
      </div>
    </Card>
  );
}
