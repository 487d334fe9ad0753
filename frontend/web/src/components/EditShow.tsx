import { ApiError, type Broadcast, type BroadcastChanges, messageOf, type Seen } from "@lac/client";
import { useEffect, useRef, useState } from "react";
import { useNavigate } from "react-router";
import { useSubmit } from "../lib/submit";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Form } from "../ui/Form";
import { Notice } from "../ui/Notice";
import { ShowFields, type ShowValues, valuesOf, wrongShow } from "./ShowFields";

interface Props {
  broadcast: Broadcast;
  onChanged: (broadcast: Broadcast) => void;
}

/** Change a show, or remove it. */
export function EditShow({ broadcast, onChanged }: Props) {
  const [asked, setAsked] = useState<"edit" | "delete" | null>(null);
  const close = () => setAsked(null);
  const owns = broadcast.yourRole === "host" || broadcast.yourRole === "admin";
  return (
    <>
      <Button size="small" onClick={() => setAsked("edit")}>
        Edit show
      </Button>
      {owns && (
        <Button size="small" look="quiet" onClick={() => setAsked("delete")}>
          Delete show
        </Button>
      )}
      <Dialog open={asked === "edit"} onClose={close} title="Edit show">
        <EditForm
          id={broadcast.id}
          titleOnly={!owns}
          onClose={close}
          onChanged={(changed) => {
            onChanged(changed);
            close();
          }}
        />
      </Dialog>
      <Dialog open={asked === "delete"} onClose={close} title="Delete this show?">
        <DeleteForm broadcast={broadcast} onClose={close} />
      </Dialog>
    </>
  );
}

function EditForm({
  id,
  titleOnly,
  onClose,
  onChanged,
}: {
  id: string;
  titleOnly: boolean;
  onClose: () => void;
  onChanged: (broadcast: Broadcast) => void;
}) {
  const { api } = useLac();
  const submit = useSubmit();
  const [seen, setSeen] = useState<Seen | null>(null);
  const [values, setValues] = useState<ShowValues | null>(null);
  const [unread, setUnread] = useState<string | null>(null);
  /** Somebody else was faster, and we show what they did. */
  const [overtaken, setOvertaken] = useState(false);
  const first = useRef(true);

  useEffect(() => {
    const abort = new AbortController();
    api.seeBroadcast(id, abort.signal).then(
      (now) => {
        setSeen(now);
        setValues(valuesOf(now.broadcast));
      },
      (error) => abort.signal.aborted || setUnread(messageOf(error)),
    );
    return () => abort.abort();
  }, [api, id]);
  useEffect(() => {
    if (!values || !first.current) return;
    first.current = false;
    submit.form.current?.querySelector("input")?.focus();
  }, [values, submit.form]);

  if (unread) return <Notice tone="error">{unread}</Notice>;
  if (!seen || !values) return <p className="text-muted">Loading…</p>;
  const before = valuesOf(seen.broadcast);

  async function save() {
    if (!seen || !values) return;
    setOvertaken(false);
    const changes = changesOf(values, before);
    await submit.run({
      wrong: wrongShow(values, before),
      fields: ["title", "description", "scheduledAt"],
      work: async () => {
        try {
          if (Object.keys(changes).length === 0) onClose();
          else onChanged((await api.updateBroadcast(id, changes, seen.tag)).broadcast);
        } catch (error) {
          if (!(error instanceof ApiError && error.status === 412)) throw error;
          const now = await api.seeBroadcast(id);
          // What this person has not touched becomes what it is now; what they wrote stays.
          const theirs = valuesOf(now.broadcast);
          setValues({ ...theirs, ...touched(values, before) });
          setSeen(now);
          setOvertaken(true);
        }
      },
    });
  }

  return (
    <Form submit={submit} onSubmit={save}>
      <ShowFields
        values={values}
        errors={submit.errors}
        onChange={setValues}
        titleOnly={titleOnly}
        timed={seen.broadcast.status === "scheduled"}
      />
      {seen.broadcast.visibility !== "private" && values.visibility === "private" && (
        <p className="text-sm text-muted">
          Whoever listens now without an invitation is let go when you save.
        </p>
      )}
      {overtaken && (
        <Notice tone="warn" title="Somebody else has changed this show meanwhile">
          Nothing of yours is lost: what you wrote is still here, and the rest is as they left it.
          Look it over, then save again.
        </Notice>
      )}
      {submit.problem && <Notice tone="error">{messageOf(submit.problem)}</Notice>}
      <div className="flex flex-wrap justify-end gap-2">
        <Button look="quiet" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" look="primary" busy={submit.busy}>
          Save
        </Button>
      </div>
    </Form>
  );
}

function touched(values: ShowValues, before: ShowValues): Partial<ShowValues> {
  const names = Object.keys(values) as (keyof ShowValues)[];
  return Object.fromEntries(
    names.filter((name) => values[name] !== before[name]).map((name) => [name, values[name]]),
  );
}

/** Only what was changed: the rest may be somebody else's to change. */
function changesOf(values: ShowValues, before: ShowValues): BroadcastChanges {
  const { title, description, visibility, time, recorded, rewind } = touched(values, before);
  return {
    ...(title === undefined ? {} : { title: title.trim() }),
    ...(description === undefined ? {} : { description: description.trim() }),
    ...(visibility === undefined ? {} : { visibility }),
    ...(recorded === undefined ? {} : { recordingEnabled: recorded }),
    ...(rewind === undefined ? {} : { rewindEnabled: rewind }),
    ...(time === undefined
      ? {}
      : { scheduledAt: time === "" ? null : new Date(time).toISOString() }),
  };
}

function DeleteForm({ broadcast, onClose }: { broadcast: Broadcast; onClose: () => void }) {
  const { api } = useLac();
  const navigate = useNavigate();
  const submit = useSubmit();
  return (
    <>
      <p className="mb-5 text-muted">
        {broadcast.status === "live" && "It ends for everyone first. "}Its chat goes with it, and it
        cannot be brought back.
      </p>
      {submit.problem && (
        <div className="mb-4">
          <Notice tone="error">{messageOf(submit.problem)}</Notice>
        </div>
      )}
      <div className="flex flex-wrap justify-end gap-2">
        <Button look="quiet" onClick={onClose}>
          Keep it
        </Button>
        <Button
          look="signal"
          busy={submit.busy}
          onClick={() =>
            submit.run({
              work: async () => {
                await api.deleteBroadcast(broadcast.id);
                navigate("/host");
              },
            })
          }
        >
          Delete for good
        </Button>
      </div>
    </>
  );
}
