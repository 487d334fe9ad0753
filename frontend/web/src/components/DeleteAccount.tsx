import { ApiError, messageOf } from "@lac/client";
import { useId, useState } from "react";
import { Link } from "react-router";
import { useSubmit } from "../lib/submit";
import { useLac, useUser } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { Dialog } from "../ui/Dialog";
import { PasswordField } from "../ui/Field";
import { Form } from "../ui/Form";
import { Notice } from "../ui/Notice";

export function DeleteAccount({ onDone }: { onDone: () => void }) {
  const [open, setOpen] = useState(false);
  const describedBy = useId();
  return (
    <Card title="Delete your account">
      <p className="mb-4 text-muted">
        For good, with the shows that you host. You may want to download your data first.
      </p>
      <Button className="text-signal" onClick={() => setOpen(true)}>
        Delete my account
      </Button>
      <Dialog
        open={open}
        onClose={() => setOpen(false)}
        title="Delete your account?"
        describedBy={describedBy}
      >
        <Question describedBy={describedBy} onCancel={() => setOpen(false)} onDone={onDone} />
      </Dialog>
    </Card>
  );
}

function Question({
  describedBy,
  onCancel,
  onDone,
}: {
  describedBy: string;
  onCancel: () => void;
  onDone: () => void;
}) {
  const { api, auth } = useLac();
  const user = useUser();
  const submit = useSubmit();
  const [password, setPassword] = useState("");
  const live = submit.problem instanceof ApiError && submit.problem.code === "show_is_live";

  const send = () =>
    submit.run({
      wrong: { password: password === "" ? "Write your password." : undefined },
      fields: ["password"],
      codes: { wrong_password: "password" },
      work: async () => {
        await api.deleteAccount(password);
        onDone();
        await auth.forget();
      },
    });

  return (
    <Form submit={submit} onSubmit={send}>
      <div id={describedBy} className="grid gap-3">
        <div>
          <h3 className="font-semibold">What goes</h3>
          <ul className="list-disc pl-5 text-muted">
            <li>Your name, e-mail address and password</li>
            <li>The shows that you host, with everything said in their chats</li>
            <li>Your roles in other shows, whom you follow, and your reminders</li>
          </ul>
        </div>
        <div>
          <h3 className="font-semibold">What stays</h3>
          <ul className="list-disc pl-5 text-muted">
            <li>Your messages in other people's shows, as of “Deleted account”</li>
            <li>The server's record of what was done, where you are only a number</li>
          </ul>
        </div>
        <p className="font-medium">Nobody can undo this.</p>
      </div>
      {submit.problem && (
        <Notice
          tone="error"
          action={
            live && (
              <Link to="/host" className="font-medium text-accent underline">
                To my shows
              </Link>
            )
          }
        >
          {messageOf(submit.problem)}
        </Notice>
      )}
      <input
        hidden
        readOnly
        type="text"
        name="username"
        autoComplete="username"
        value={user?.email ?? ""}
      />
      <PasswordField
        label="Your password"
        name="password"
        autoComplete="current-password"
        required
        value={password}
        error={submit.errors.password}
        onChange={(event) => setPassword(event.target.value)}
      />
      <div className="mt-1 flex flex-wrap justify-end gap-2">
        <Button look="quiet" onClick={onCancel}>
          Keep my account
        </Button>
        <Button type="submit" look="signal" busy={submit.busy}>
          Delete for good
        </Button>
      </div>
    </Form>
  );
}
