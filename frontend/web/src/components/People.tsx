import {
  comparePeople,
  type Hand,
  type InviteOutcome,
  mayActOn,
  maySpeak,
  type Person,
  REASON_MAX,
  type Room,
  type RoomView,
} from "@lac/client";
import { useEffect, useMemo, useRef, useState } from "react";
import { useAct } from "../lib/act";
import { formatTime, plural } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { HandIcon, MicIcon, MicOffIcon, UpIcon } from "../ui/icons";
import { Menu, type MenuItem } from "../ui/Menu";
import { Notice } from "../ui/Notice";
import { RoleBadge } from "./RoleBadge";

const ROLES_GIVEN = [
  ["cohost", "co-host"],
  ["moderator", "moderator"],
] as const;

/** Who is here, for those who moderate: the queue of hands first, then everyone. */
export function People({ room, view }: { room: Room; view: RoomView }) {
  const { api } = useLac();
  const { act, problem } = useAct();
  const [removing, setRemoving] = useState<{ person: Person; banned: boolean } | null>(null);
  const { invited, invite, news } = useInvitations(room, view);
  const [more, setMore] = useState<Person[]>([]);
  const [cursor, setCursor] = useState<string | null | undefined>();

  const people = useMemo(() => {
    const known = new Map(more.map((person) => [person.id, person]));
    for (const person of Object.values(view.members)) known.set(person.id, person);
    return [...known.values()].sort(comparePeople);
  }, [view.members, more]);

  const givesRoles = view.you?.role === "host" || view.you?.role === "admin";
  const toggleMute = (person: Person) =>
    act(() => (person.muted ? room.unmute(person.id) : room.mute(person.id)));

  function acts(person: Person): MenuItem[] {
    const { id, role } = person;
    const items: MenuItem[] = [];
    const item = (label: string, work: () => Promise<void>) =>
      items.push({ label, onSelect: () => void act(work) });
    if (role === "listener" && !person.anonymous) item("Invite to speak", () => invite(id));
    if (invited.has(id)) item("Withdraw the invitation", () => room.moveToAudience(id));
    if (givesRoles && !person.anonymous && role !== "host" && role !== "admin") {
      for (const [given, label] of ROLES_GIVEN)
        if (role !== given) item(`Make ${label}`, () => api.giveRole(room.id, id, given));
      if (role === "cohost" || role === "moderator")
        item("Take the role away", () => api.takeRole(room.id, id));
    }
    if (role === "speaker") item("Move to the audience", () => room.moveToAudience(id));
    if (isMutable(person)) item(person.muted ? "Unmute" : "Mute", () => toggleMute(person));
    item("Clear their messages", () => room.clearMessages(id));
    const remove = (banned: boolean) => () => setRemoving({ person, banned });
    items.push({ label: "Remove…", onSelect: remove(false), danger: true });
    items.push({ label: "Ban…", onSelect: remove(true), danger: true });
    return items;
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
      <p role="status" className="mb-3 text-sm font-medium text-accent empty:hidden">
        {news}
      </p>
      <Hands
        view={view}
        invited={invited}
        nameOf={(id) => view.members[id]?.displayName ?? ""}
        onLower={(hand) => act(() => room.lowerHand(hand.userId))}
        onUp={(hand, position) => act(() => room.moveHand(hand.userId, position))}
        onInvite={(hand) => act(() => invite(hand.userId))}
      />
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
              invited={invited.has(person.id)}
              manageable={mayActOn(view.you?.role, person.role)}
              items={acts(person)}
              onMute={() => toggleMute(person)}
              onRemove={() => setRemoving({ person, banned: false })}
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
        title={`${removing?.banned ? "Ban" : "Remove"} ${removing?.person.displayName ?? ""}?`}
      >
        {removing && (
          <RemoveForm
            person={removing.person}
            banned={removing.banned}
            onCancel={() => setRemoving(null)}
            onRemove={(options) => {
              const { id } = removing.person;
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

/** Whom we have asked onto the stage, and what became of it. */
function useInvitations(room: Room, { inviteEnded, names }: RoomView) {
  const [invited, setInvited] = useState<ReadonlySet<string>>(new Set());
  const [news, setNews] = useState("");
  const told = useRef(inviteEnded?.seq ?? 0);
  useEffect(() => {
    if (!inviteEnded || inviteEnded.seq === told.current) return;
    told.current = inviteEnded.seq;
    const { userId, outcome } = inviteEnded;
    setInvited((invited) => new Set([...invited].filter((id) => id !== userId)));
    setNews(outcomeWords(names[userId] ?? "They", outcome));
  }, [inviteEnded, names]);
  const invite = async (id: string) => {
    await room.inviteToSpeak(id);
    setInvited((invited) => new Set([...invited, id]));
    setNews(`${names[id] ?? "They"} has been invited to speak.`);
  };
  return { invited, invite, news };
}

function outcomeWords(name: string, outcome: InviteOutcome): string {
  if (outcome === "accepted") return `${name} accepted, and may speak now.`;
  if (outcome === "declined") return `${name} does not want to speak just now.`;
  return `The invitation to ${name} was withdrawn.`;
}

function Hands({
  view,
  invited,
  nameOf,
  onLower,
  onUp,
  onInvite,
}: {
  view: RoomView;
  invited: ReadonlySet<string>;
  nameOf: (id: string) => string;
  onLower: (hand: Hand) => void;
  onUp: (hand: Hand, position: number) => void;
  onInvite: (hand: Hand) => void;
}) {
  const { hands, members } = view;
  if (hands.length === 0) return null;
  return (
    <div className="mb-4 rounded-2xl bg-accent-soft p-3">
      <h3 className="mb-1 flex items-center gap-2 font-semibold">
        <HandIcon />
        Raised hands ({hands.length})
      </h3>
      <ol aria-label="Raised hands">
        {hands.map((hand, index) => {
          const name = nameOf(hand.userId) || hand.displayName;
          const guest = members[hand.userId]?.anonymous ?? hand.userId.startsWith("guest-");
          const asked = invited.has(hand.userId);
          return (
            <li
              key={hand.userId}
              className="flex flex-wrap items-center gap-x-3 gap-y-1.5 border-b border-line py-2 last:border-0 last:pb-0"
            >
              <span className="min-w-0 flex-1 basis-40">
                <span className="flex items-baseline gap-2">
                  <span aria-hidden="true" className="text-muted tabular-nums">
                    {index + 1}.
                  </span>
                  <span className="truncate font-medium">{name}</span>
                </span>
                <span className="block text-sm wrap-anywhere text-muted">
                  {hand.note ? `“${hand.note}”` : `since ${formatTime(hand.raisedAt)}`}
                  {guest && " · a guest, who has to sign in to speak"}
                </span>
              </span>
              <span className="ml-auto flex flex-wrap justify-end gap-2">
                {!guest && (
                  <Button
                    size="small"
                    look={asked ? "outline" : "primary"}
                    aria-label={asked ? `Invite ${name} again` : `Invite ${name} to speak`}
                    onClick={() => onInvite(hand)}
                  >
                    {asked ? "Invite again" : "Invite to speak"}
                  </Button>
                )}
                {index > 0 && (
                  <Button
                    size="small"
                    className="w-11 px-0!"
                    icon={<UpIcon />}
                    aria-label={`Move the hand of ${name} up`}
                    onClick={() => onUp(hand, index)}
                  />
                )}
                <Button
                  size="small"
                  aria-label={`Lower the hand of ${name}`}
                  onClick={() => onLower(hand)}
                >
                  Lower
                </Button>
              </span>
            </li>
          );
        })}
      </ol>
    </div>
  );
}

function Member({
  person,
  own,
  invited,
  manageable,
  items,
  onMute,
  onRemove,
}: {
  person: Person;
  own: boolean;
  invited: boolean;
  /** Not stronger than we are. */
  manageable: boolean;
  items: readonly MenuItem[];
  onMute: () => void;
  onRemove: () => void;
}) {
  const { displayName, role, muted, speaking, anonymous } = person;
  return (
    <li className="flex min-h-12 flex-wrap items-center gap-x-2 gap-y-1 border-b border-line py-1.5 last:border-0">
      <span className="flex min-w-0 flex-1 basis-32 flex-wrap items-center gap-x-2">
        <span className="max-w-full truncate font-medium">{displayName}</span>
        {own && <span className="text-sm text-muted">you</span>}
        {anonymous && <span className="text-sm text-muted">guest</span>}
        <RoleBadge role={role} />
        {invited && <span className="text-sm text-accent">invited</span>}
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
      {!own && manageable && (
        <span className="ml-auto flex items-center">
          {isMutable(person) && (
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
          <Menu label={`More about ${displayName}`} items={items} />
        </span>
      )}
    </li>
  );
}

/** Only those whose sound can reach the show have something to mute. */
function isMutable({ role, speaking, muted }: Person): boolean {
  return maySpeak(role) || speaking || muted;
}

const MINUTE_MS = 60_000;
const BAN_TIMES = [
  { label: "10 minutes", ms: 10 * MINUTE_MS },
  { label: "1 hour", ms: 60 * MINUTE_MS },
  { label: "1 day", ms: 24 * 60 * MINUTE_MS },
  { label: "1 week", ms: 7 * 24 * 60 * MINUTE_MS },
  { label: "For good", ms: 0 },
] as const;

function RemoveForm({
  person,
  banned,
  onRemove,
  onCancel,
}: {
  person: Person;
  /** Begin with the ban chosen. */
  banned: boolean;
  onRemove: (options: { reason?: string; ban?: boolean; until?: string }) => void;
  onCancel: () => void;
}) {
  const [reason, setReason] = useState("");
  const [ban, setBan] = useState(banned);
  const [banMs, setBanMs] = useState<number>(0);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onRemove({
          ban,
          ...(reason.trim() === "" ? {} : { reason: reason.trim() }),
          ...(ban && banMs > 0 ? { until: new Date(Date.now() + banMs).toISOString() } : {}),
        });
      }}
    >
      <p className="mb-4 text-muted">
        {ban
          ? "They stop hearing the show at once, and cannot come back while they are banned."
          : "They stop hearing the show at once, and cannot come back while it runs."}
      </p>
      <TextField
        label="Reason"
        hint="They will see it."
        maxLength={REASON_MAX}
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
      {!banned && (
        <label className="mt-3 flex min-h-11 items-center gap-3">
          <input
            type="checkbox"
            checked={ban}
            onChange={(event) => setBan(event.target.checked)}
            className="size-5 shrink-0 accent-accent"
          />
          {person.anonymous
            ? "Also ban them, and other guests from where they are"
            : "Also ban their account from this show"}
        </label>
      )}
      {ban && (
        <label className="mt-3 block">
          <span className="mb-1.5 block font-medium">For how long</span>
          <select
            className="input"
            value={banMs}
            onChange={(event) => setBanMs(Number(event.target.value))}
          >
            {BAN_TIMES.map(({ label, ms }) => (
              <option key={ms} value={ms}>
                {label}
              </option>
            ))}
          </select>
        </label>
      )}
      <div className="mt-4 flex flex-wrap justify-end gap-2">
        <Button look="quiet" onClick={onCancel}>
          Cancel
        </Button>
        <Button type="submit" look="signal">
          {banned ? "Ban" : "Remove"}
        </Button>
      </div>
    </form>
  );
}
