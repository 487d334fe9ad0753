import {
  comparePeople,
  type Hand,
  messageOf,
  type Person,
  type Room,
  type RoomView,
} from "@lac/client";
import { useMemo, useState } from "react";
import { formatTime, plural } from "../lib/time";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { HandIcon, MicIcon, MicOffIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";
import { RoleBadge } from "./RoleBadge";

/** Who is here, for those who moderate: the queue of hands first, then everyone. */
export function People({ room, view }: { room: Room; view: RoomView }) {
  const [problem, setProblem] = useState<string | null>(null);
  const [removing, setRemoving] = useState<Person | null>(null);
  const [more, setMore] = useState<Person[]>([]);
  const [cursor, setCursor] = useState<string | null | undefined>();

  const people = useMemo(() => {
    const known = new Map(more.map((person) => [person.id, person]));
    for (const person of Object.values(view.members)) known.set(person.id, person);
    return [...known.values()].sort(comparePeople);
  }, [view.members, more]);

  async function act(work: () => Promise<void>): Promise<void> {
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(messageOf(error));
    }
  }

  const showMore = () =>
    act(async () => {
      const page = await room.listMembers(cursor ?? undefined);
      setMore((more) => [...more, ...page.items]);
      setCursor(page.nextCursor);
    });
  const mayShowMore = people.length < view.memberCount && cursor !== null;

  return (
    <Card
      title="People"
      aside={
        <span className="text-sm text-muted tabular-nums">
          {plural(view.memberCount, "person", "people")} here
        </span>
      }
    >
      {problem && (
        <div className="mb-3">
          <Notice tone="error">{problem}</Notice>
        </div>
      )}
      <Hands hands={view.hands} onLower={(hand) => act(() => room.lowerHand(hand.userId))} />
      {people.length === 0 ? (
        <p className="text-muted">Nobody is here yet. Share the link to bring people in.</p>
      ) : (
        // Ends within a row, so that it is seen to go on.
        <ul aria-label="People in this show" className="max-h-[26.5rem] overflow-y-auto">
          {people.map((person) => (
            <Member
              key={person.id}
              person={person}
              own={person.id === view.you?.id}
              onMute={() =>
                act(() => (person.muted ? room.unmute(person.id) : room.mute(person.id)))
              }
              onRemove={() => setRemoving(person)}
            />
          ))}
        </ul>
      )}
      {mayShowMore && (
        <Button size="small" className="mt-3" onClick={showMore}>
          Show more people
        </Button>
      )}
      <Dialog
        open={removing !== null}
        onClose={() => setRemoving(null)}
        title={`Remove ${removing?.displayName ?? ""}?`}
      >
        {removing && (
          <RemoveForm
            onCancel={() => setRemoving(null)}
            onRemove={(options) => {
              const { id } = removing;
              setRemoving(null);
              void act(async () => {
                await room.remove(id, options);
                setMore((more) => more.filter((person) => person.id !== id));
              });
            }}
          />
        )}
      </Dialog>
    </Card>
  );
}

function Hands({ hands, onLower }: { hands: readonly Hand[]; onLower: (hand: Hand) => void }) {
  if (hands.length === 0) return null;
  return (
    <div className="mb-4 rounded-2xl bg-accent-soft p-3">
      <h3 className="mb-1 flex items-center gap-2 font-semibold">
        <HandIcon />
        Raised hands ({hands.length})
      </h3>
      <ol aria-label="Raised hands">
        {hands.map((hand) => (
          <li key={hand.userId} className="flex items-center gap-3 py-1">
            <span className="min-w-0 flex-1">
              <span className="block truncate font-medium">{hand.displayName}</span>
              <span className="block text-sm text-muted">
                {hand.note ? `“${hand.note}”` : `since ${formatTime(hand.raisedAt)}`}
              </span>
            </span>
            <Button
              size="small"
              aria-label={`Lower the hand of ${hand.displayName}`}
              onClick={() => onLower(hand)}
            >
              Lower
            </Button>
          </li>
        ))}
      </ol>
    </div>
  );
}

function Member({
  person,
  own,
  onMute,
  onRemove,
}: {
  person: Person;
  own: boolean;
  onMute: () => void;
  onRemove: () => void;
}) {
  const { displayName, role, muted, speaking, anonymous } = person;
  // Only those whose sound can reach the show have something to mute.
  const mutable = role !== "listener" || speaking || muted;
  return (
    <li className="flex min-h-12 flex-wrap items-center gap-x-2 gap-y-1 border-b border-line py-1.5 last:border-0">
      <span className="flex min-w-0 flex-1 basis-32 flex-wrap items-center gap-x-2">
        <span className="truncate font-medium">{displayName}</span>
        {own && <span className="text-sm text-muted">you</span>}
        {anonymous && <span className="text-sm text-muted">guest</span>}
        <RoleBadge role={role} />
        {muted ? (
          <span className="inline-flex items-center gap-1 text-sm text-signal">
            <MicOffIcon width={16} height={16} />
            muted
          </span>
        ) : (
          speaking && (
            <span className="inline-flex items-center gap-1 text-sm text-accent">
              <MicIcon width={16} height={16} />
              on air
            </span>
          )
        )}
      </span>
      {!own && (
        <span className="ml-auto flex">
          {mutable && (
            <Button
              size="small"
              look="quiet"
              aria-label={`${muted ? "Unmute" : "Mute"} ${displayName}`}
              onClick={onMute}
            >
              {muted ? "Unmute" : "Mute"}
            </Button>
          )}
          <Button size="small" look="quiet" aria-label={`Remove ${displayName}`} onClick={onRemove}>
            Remove
          </Button>
        </span>
      )}
    </li>
  );
}

function RemoveForm({
  onRemove,
  onCancel,
}: {
  onRemove: (options: { reason?: string; ban?: boolean }) => void;
  onCancel: () => void;
}) {
  const [reason, setReason] = useState("");
  const [ban, setBan] = useState(false);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onRemove({ ban, ...(reason.trim() === "" ? {} : { reason: reason.trim() }) });
      }}
    >
      <p className="mb-4 text-muted">
        They stop hearing the show at once, and cannot come back while it runs.
      </p>
      <TextField
        label="Reason"
        hint="They will see it."
        maxLength={300}
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
      <label className="mt-3 flex min-h-11 items-center gap-3">
        <input
          type="checkbox"
          checked={ban}
          onChange={(event) => setBan(event.target.checked)}
          className="size-5 accent-accent"
        />
        Also ban their account from this show
      </label>
      <div className="mt-4 flex flex-wrap justify-end gap-2">
        <Button look="quiet" onClick={onCancel}>
          Cancel
        </Button>
        <Button type="submit" look="signal">
          Remove
        </Button>
      </div>
    </form>
  );
}
