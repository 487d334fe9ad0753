import { ApiError, type Broadcast, messageOf, type Visibility } from "@lac/client";
import { useCallback, useEffect, useRef, useState } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { BroadcastCard } from "../components/BroadcastCard";
import { Loading } from "../components/PageState";
import { RequireUser } from "../components/RequireUser";
import { useLac, useUser } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { type Choice, Choices, TextArea, TextField } from "../ui/Field";
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
    </>
  );
}

const VISIBILITIES: readonly Choice<Visibility>[] = [
  { value: "public", label: "Everyone", hint: "Listed on the home page." },
  { value: "unlisted", label: "Anyone with the link", hint: "Not listed anywhere." },
  {
    value: "private",
    label: "Invited people",
    hint: "Only accounts that have a part in the show.",
  },
];

function NewShow({
  intro,
  onCancel,
}: {
  intro?: string | undefined;
  onCancel?: (() => void) | undefined;
}) {
  const { api } = useLac();
  const navigate = useNavigate();
  const [title, setTitle] = useState("");
  const [description, setDescription] = useState("");
  const [visibility, setVisibility] = useState<Visibility>("public");
  const [time, setTime] = useState("");
  const [fields, setFields] = useState<Record<string, string>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  async function create() {
    setProblem(null);
    const wrong: Record<string, string> = {};
    if (title.trim() === "") wrong.title = "Give the show a title.";
    const at = time === "" ? null : new Date(time);
    if (at && !(at.getTime() > Date.now())) wrong.scheduledAt = "Choose a time in the future.";
    setFields(wrong);
    if (Object.keys(wrong).length > 0) {
      form.current?.querySelector<HTMLElement>("input")?.focus();
      return;
    }
    setBusy(true);
    try {
      const show = await api.createBroadcast({
        title: title.trim(),
        visibility,
        ...(description.trim() === "" ? {} : { description: description.trim() }),
        ...(at ? { scheduledAt: at.toISOString() } : {}),
      });
      navigate(`/host/${encodeURIComponent(show.id)}`);
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
        <TextField
          label="Title"
          required
          autoFocus
          maxLength={200}
          value={title}
          error={fields.title}
          onChange={(event) => setTitle(event.target.value)}
        />
        <TextArea
          label="Description"
          maxLength={10_000}
          value={description}
          error={fields.description}
          onChange={(event) => setDescription(event.target.value)}
        />
        <Choices
          legend="Who can listen"
          choices={VISIBILITIES}
          value={visibility}
          onChange={setVisibility}
        />
        <TextField
          label="Start time"
          type="datetime-local"
          hint="In your own time zone. Leave it empty to go live whenever you are ready."
          value={time}
          error={fields.scheduledAt}
          onChange={(event) => setTime(event.target.value)}
          className="max-w-64"
        />
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
