import { ApiError, messageOf, NAME_MAX } from "@lac/client";
import { useState } from "react";
import { useNavigate } from "react-router";
import { RequireUser } from "../components/RequireUser";
import { useLac, useUser } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { TextField } from "../ui/Field";
import { Notice } from "../ui/Notice";

export default function AccountPage() {
  return (
    <RequireUser>
      <title>Account · LiveAudioCast</title>
      <Account />
    </RequireUser>
  );
}

function Account() {
  const { api, auth } = useLac();
  const user = useUser();
  const navigate = useNavigate();
  const [name, setName] = useState(user?.displayName ?? "");
  const [error, setError] = useState<string | undefined>();
  const [problem, setProblem] = useState<string | null>(null);
  const [saved, setSaved] = useState(false);
  const [busy, setBusy] = useState(false);

  async function save() {
    const displayName = name.trim();
    setSaved(false);
    setProblem(null);
    setError(displayName === "" ? "Write the name people see." : undefined);
    if (displayName === "") return;
    setBusy(true);
    try {
      await auth.setUser(await api.updateMe({ displayName }));
      setSaved(true);
    } catch (failure) {
      const field = failure instanceof ApiError ? failure.fields.displayName : undefined;
      setError(field);
      if (!field) setProblem(messageOf(failure));
    } finally {
      setBusy(false);
    }
  }

  return (
    <div className="mx-auto max-w-md py-4 sm:py-8">
      <h1 className="mb-5 text-3xl font-semibold tracking-tight">Account</h1>
      <div className="grid gap-5">
        <Card title="Your name">
          <form
            noValidate
            className="grid gap-4"
            onSubmit={(event) => {
              event.preventDefault();
              if (!busy) void save();
            }}
          >
            {problem && <Notice tone="error">{problem}</Notice>}
            <TextField
              label="Display name"
              required
              autoComplete="nickname"
              maxLength={NAME_MAX}
              hint="Shown with your shows and messages."
              value={name}
              error={error}
              onChange={(event) => {
                setName(event.target.value);
                setSaved(false);
              }}
            />
            <div className="flex items-center gap-3">
              <Button type="submit" look="primary" busy={busy}>
                Save
              </Button>
              <span role="status" className="text-muted">
                {saved && "Saved."}
              </span>
            </div>
          </form>
        </Card>
        <Card title="Signed in">
          <p className="mb-4 text-muted">
            {user?.email ? <>As {user.email}</> : "On this device"}
            {user?.isAdmin && " (administrator)"}
          </p>
          <Button
            onClick={async () => {
              await auth.logout();
              navigate("/");
            }}
          >
            Sign out
          </Button>
        </Card>
      </div>
    </div>
  );
}
