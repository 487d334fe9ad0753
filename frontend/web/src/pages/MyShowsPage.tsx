import { ApiError, type Broadcast, idempotencyKey, messageOf } from "@lac/client";
import { useCallback, useEffect, useRef, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { BroadcastCard } from "../components/BroadcastCard";
import { Loading } from "../components/PageState";
import { RequireUser } from "../components/RequireUser";
import { emptyShow, ShowFields, showOf, wrongShow } from "../components/ShowFields";
import { useLac, useUser } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { CopyField } from "../ui/CopyField";
import { PlusIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";

export default function MyShowsPage() {
  return (
    <RequireUser>
      <title>My shows · LiveAudioCast</title>
      <MyShows />
    </RequireUser>
  );
}

function MyShows() {
  const { api } = useLac();
  const user = useUser();
  const [params] = useSearchParams();
  const [shows, setShows] = useState<Broadcast[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [creating, setCreating] = useState(params.has("new"));
  const hostId = user?.id;

  const load = useCallback(async () => {
    if (!hostId) return;
    setProblem(null);
    try {
      const { items } = await api.listBroadcasts({ hostId, limit: 100 });
      setShows(items);
    } catch (error) {
      setProblem(messageOf(error));
    }
  }, [api, hostId]);
  useEffect(() => {
    void load();
  }, [load]);

  const groups = [
    ["On air", shows?.filter((show) => show.status === "live")],
    ["Upcoming", shows?.filter((show) => show.status === "scheduled")],
    ["Past", shows?.filter((show) => show.status === "ended")],
  ] as const;
  const empty = shows?.length === 0;

  return (
    <>
      <div className="mb-6 flex flex-wrap items-center justify-between gap-4">
        <h1 className="text-3xl font-semibold tracking-tight">My shows</h1>
        {!creating && !empty && (
          <Button look="primary" icon={<PlusIcon />} onClick={() => setCreating(true)}>
            New show
          </Button>
        )}
      </div>
      {problem && (
        <Notice
          tone="error"
          title="Your shows could not be loaded"
          action={<Button onClick={load}>Try again</Button>}
        >
          {problem}
        </Notice>
      )}
      {(creating || empty) && (
        <NewShow
          intro={empty ? "You have no shows yet. Give your first one a title." : undefined}
          onCancel={empty ? undefined : () => setCreating(false)}
        />
      )}
      {shows === null && !problem && <Loading />}
      {groups.map(
        ([title, some]) =>
          some &&
          some.length > 0 && (
            <section key={title} aria-label={title} className="mb-8">
              <h2 className="mb-3 text-xl font-semibold">{title}</h2>
              <ul className="grid gap-4 sm:grid-cols-2 lg:grid-cols-3">
                {some.map((show) => (
                  <BroadcastCard
                    key={show.id}
                    broadcast={show}
                    to={`/host/${encodeURIComponent(show.id)}`}
                  />
                ))}
              </ul>
            </section>
          ),
      )}
      {user && !empty && shows !== null && (
        <Card title="Podcast" className="max-w-2xl">
          <p className="mb-3 text-muted">
            Recordings of your public shows appear in podcast apps, and so does a show while it is
            on air. Give people this address, or enter it in a podcast directory.
          </p>
          <CopyField
            label="Feed"
            value={`${window.location.origin}/podcasts/${encodeURIComponent(user.id)}/feed.xml`}
          />
        </Card>
      )}
    </>
  );
}

function NewShow({
  intro,
  onCancel,
}: {
  intro?: string | undefined;
  onCancel?: (() => void) | undefined;
}) {
  const { api } = useLac();
  const navigate = useNavigate();
  const [values, setValues] = useState(emptyShow);
  const [fields, setFields] = useState<Record<string, string>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  /** Of the show as it was sent last: sent once more, unchanged, it is the same show and not a second one. */
  const sent = useRef({ body: "", key: "" });

  async function create() {
    setProblem(null);
    const wrong = wrongShow(values);
    setFields(wrong);
    if (Object.keys(wrong).length > 0) {
      form.current?.querySelector<HTMLElement>("input")?.focus();
      return;
    }
    const show = showOf(values);
    const body = JSON.stringify(show);
    if (sent.current.body !== body) sent.current = { body, key: idempotencyKey() };
    setBusy(true);
    try {
      const { id } = await api.createBroadcast(show, sent.current.key);
      navigate(`/host/${encodeURIComponent(id)}`);
    } catch (error) {
      if (error instanceof ApiError) setFields({ ...error.fields });
      setProblem(messageOf(error));
      setBusy(false);
    }
  }

  return (
    <Card title="New show" className="mb-8 max-w-2xl">
      {intro && <p className="mb-4 text-muted">{intro}</p>}
      <form
        ref={form}
        noValidate
        className="grid gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          if (!busy) void create();
        }}
      >
        {problem && <Notice tone="error">{problem}</Notice>}
        <ShowFields values={values} errors={fields} autoFocus onChange={setValues} />
        <div className="flex flex-wrap gap-2">
          <Button type="submit" look="primary" busy={busy}>
            Create show
          </Button>
          {onCancel && (
            <Button look="quiet" onClick={onCancel}>
              Cancel
            </Button>
          )}
        </div>
      </form>
    </Card>
  );
}
