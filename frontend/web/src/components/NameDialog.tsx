import { messageOf, NAME_MAX, type Room } from "@lac/client";
import { type ReactNode, useCallback, useRef, useState } from "react";
import { Link, useLocation } from "react-router";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";

/**
 * Asks people without an account for a name, the first time that others would see them. `ensureName()` resolves to true
 * once there is one.
 */
export function useName(room: Room): { ensureName: () => Promise<boolean>; nameDialog: ReactNode } {
  const [open, setOpen] = useState(false);
  const answer = useRef<((named: boolean) => void) | null>(null);

  const ensureName = useCallback(() => {
    if (!room.needsName()) return Promise.resolve(true);
    setOpen(true);
    answer.current?.(false);
    return new Promise<boolean>((resolve) => {
      answer.current = resolve;
    });
  }, [room]);

  const finish = useCallback((named: boolean) => {
    setOpen(false);
    answer.current?.(named);
    answer.current = null;
  }, []);

  const nameDialog = (
    <Dialog open={open} onClose={() => finish(false)} title="What should people call you?">
      <NameForm room={room} onDone={finish} />
    </Dialog>
  );
  return { ensureName, nameDialog };
}

function NameForm({ room, onDone }: { room: Room; onDone: (named: boolean) => void }) {
  const [name, setName] = useState("");
  const [error, setError] = useState<string | undefined>();
  const [busy, setBusy] = useState(false);
  const { pathname } = useLocation();
  return (
    <form
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        const chosen = name.trim();
        if (chosen === "") {
          setError("Write a name first. It need not be your real one.");
          return;
        }
        setBusy(true);
        try {
          await room.setName(chosen);
          onDone(true);
        } catch (problem) {
          setError(messageOf(problem));
          setBusy(false);
        }
      }}
    >
      <p className="mb-4 text-muted">
        Everyone in this show will see it. To use your account instead,{" "}
        <Link className="text-accent underline" to={`/login?next=${encodeURIComponent(pathname)}`}>
          sign in
        </Link>
        .
      </p>
      <TextField
        label="Your name"
        required
        autoComplete="nickname"
        maxLength={NAME_MAX}
        value={name}
        error={error}
        onChange={(event) => setName(event.target.value)}
      />
      <div className="mt-5 flex flex-wrap justify-end gap-2">
        <Button look="quiet" onClick={() => onDone(false)}>
          Cancel
        </Button>
        <Button type="submit" look="primary" busy={busy}>
          Continue
        </Button>
      </div>
    </form>
  );
}
