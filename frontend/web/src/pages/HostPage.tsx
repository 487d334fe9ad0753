import {
  type Broadcast,
  type Host,
  type HostState,
  type LinkStats,
  mayHost,
  type RoomView,
} from "@lac/client";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useParams } from "react-router";
import { useStore } from "zustand";
import { Activity } from "../components/Activity";
import { Bans } from "../components/Bans";
import { Chat } from "../components/Chat";
import { ChatSettings } from "../components/ChatSettings";
import { ConnectionDetails } from "../components/ConnectionDetails";
import { EditShow } from "../components/EditShow";
import { LevelMeter } from "../components/LevelMeter";
import { MicrophoneSetup } from "../components/MicrophoneSetup";
import { PageState } from "../components/PageState";
import { People } from "../components/People";
import { FloatingReactions } from "../components/Reactions";
import { Recorder } from "../components/Recorder";
import { Renew } from "../components/Renew";
import { RequireUser } from "../components/RequireUser";
import { useRoomProblem } from "../components/RoomProblem";
import { Speakers, StageSound } from "../components/Speakers";
import { audioContext, useLevel } from "../lib/audio";
import { offerDiagnostics } from "../lib/diagnostics";
import { useNow, useWakeUp } from "../lib/hooks";
import { inviteLink } from "../lib/room";
import type { Studio } from "../lib/studio";
import { formatClock, formatDateTime, formatTime, plural } from "../lib/time";
import { useLac, useServices } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Card } from "../ui/Card";
import { CopyField } from "../ui/CopyField";
import { Dialog } from "../ui/Dialog";
import { HeadphonesIcon, MicIcon, MicOffIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";
import { StatusBadge } from "../ui/StatusBadge";

export default function HostPage() {
  return (
    <RequireUser>
      <HostConsole />
    </RequireUser>
  );
}

function HostConsole() {
  const { id = "" } = useParams();
  const { studios } = useServices();
  const studio = useMemo(() => studios.of(id), [studios, id]);
  useEffect(() => studio.enter(), [studio]);
  useWakeUp(() => {
    studio.room.retryNow();
    studio.host.retryNow();
  });
  const view = useStore(studio.room.store);
  const problem = useRoomProblem(studio.room, view);
  const { broadcast } = view;
  return (
    <>
      <title>{`Hosting: ${broadcast?.title ?? "show"} · LiveAudioCast`}</title>
      {problem ??
        (broadcast &&
          (mayHost(broadcast.yourRole) ? (
            <Console studio={studio} view={view} broadcast={broadcast} />
          ) : (
            <PageState
              title="This is not your show"
              action={
                <ButtonLink to={`/b/${encodeURIComponent(id)}`} look="primary">
                  Listen to it
                </ButtonLink>
              }
            >
              Only its host and co-hosts can open the console.
            </PageState>
          )))}
    </>
  );
}

interface Props {
  studio: Studio;
  view: RoomView;
  broadcast: Broadcast;
}

const noNameNeeded = () => Promise.resolve(true);

function Console({ studio, view, broadcast }: Props) {
  const ended = broadcast.status === "ended";
  return (
    <>
      <ConsoleHeader studio={studio} view={view} broadcast={broadcast} />
      <div className="grid gap-5 lg:grid-cols-[minmax(0,1fr)_24rem] lg:items-start">
        <div className="grid min-w-0 gap-5">
          {view.problem && <Notice tone="warn">{view.problem}</Notice>}
          {ended ? (
            <Ended broadcast={broadcast} />
          ) : (
            <StudioCard {...{ studio, view, broadcast }} />
          )}
        </div>
        <Chat
          room={studio.room}
          beforeSpeaking={noNameNeeded}
          disabled={ended ? "The show has ended, and the chat is closed." : null}
          className="h-[min(34rem,75dvh)] lg:sticky lg:top-6 lg:row-span-2 lg:h-[min(46rem,calc(100dvh-9rem))]"
        />
        {!ended && (
          <div className="grid min-w-0 gap-5">
            {broadcast.status === "live" && <Recorder broadcast={broadcast} view={view} />}
            <People room={studio.room} view={view} />
            <ChatSettings room={studio.room} view={view} />
            <Bans id={studio.id} />
            <ShareCard studio={studio} broadcast={broadcast} />
            <EncoderCard studio={studio} broadcast={broadcast} />
            <Activity id={studio.id} names={view.names} />
          </div>
        )}
      </div>
    </>
  );
}

function ConsoleHeader({ studio, view, broadcast }: Props) {
  const live = broadcast.status === "live";
  const now = useNow(live ? 1000 : null);
  return (
    <div className="mb-5">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <StatusBadge status={broadcast.status} away={view.hostAway !== null} />
        {live && broadcast.startedAt && (
          <span className="tabular-nums">
            <span className="sr-only">On since </span>
            {formatClock(now - Date.parse(broadcast.startedAt))}
          </span>
        )}
        {broadcast.status === "scheduled" && broadcast.scheduledAt && (
          <time dateTime={broadcast.scheduledAt}>{formatDateTime(broadcast.scheduledAt)}</time>
        )}
        {broadcast.status !== "ended" && (
          <span className="inline-flex items-center gap-1.5 text-muted tabular-nums">
            <HeadphonesIcon width={18} height={18} />
            {plural(view.listenerCount, "listener")}
          </span>
        )}
        <span className="ml-auto flex flex-wrap gap-1">
          <EditShow broadcast={broadcast} onChanged={studio.room.update} />
        </span>
      </div>
      <h1 className="mt-2 text-2xl font-semibold tracking-tight wrap-anywhere sm:text-3xl">
        {broadcast.title}
      </h1>
    </div>
  );
}

function StudioCard({ studio, view, broadcast }: Props) {
  const { host, room } = studio;
  const state = useStore(host.store);
  const meter = useRef<HTMLDivElement>(null);
  useLevel(state.track, [meter]);
  const [ending, setEnding] = useState(false);
  const [handing, setHanding] = useState(false);
  const stats = useLinkStats(host, state.phase === "on_air");

  useEffect(
    () =>
      offerDiagnostics({
        remoteTrack: null,
        heardAt: () => null,
        get localTrack() {
          return host.store.getState().track;
        },
        stats: host.stats,
        rawStats: host.rawStats,
      }),
    [host],
  );

  const sending = state.phase === "on_air" || state.phase === "reconnecting";
  const live = broadcast.status === "live";
  const mutedByOthers = view.you ? view.members[view.you.id]?.muted === true : false;
  const guest = Object.values(view.members).find(({ role }) => role === "speaker") ?? null;
  const heard = view.producers.find((producer) => producer.userId !== view.you?.id);
  const elsewhere =
    state.phase === "off_air" &&
    live &&
    view.producers.some((producer) => producer.userId === view.you?.id);

  const start = () => {
    audioContext();
    void host.goLive();
  };

  return (
    <Card title="Studio" className="relative">
      <div className="grid gap-5">
        <div className="flex flex-wrap items-center gap-3">
          {sending ? (
            <Button
              size="large"
              look={state.paused ? "primary" : "outline"}
              icon={state.paused ? <MicIcon /> : <MicOffIcon />}
              onClick={state.paused ? host.resume : host.pause}
            >
              {state.paused ? "Continue" : "Pause"}
            </Button>
          ) : (
            <Button
              size="large"
              look="signal"
              icon={<MicIcon />}
              busy={state.phase !== "off_air"}
              onClick={start}
            >
              {live ? "Resume show" : "Go live"}
            </Button>
          )}
          {sending && guest && (
            <Button size="large" onClick={() => setHanding(true)}>
              Leave the stage
            </Button>
          )}
          {live && (
            <Button size="large" onClick={() => setEnding(true)} busy={state.phase === "ending"}>
              End show
            </Button>
          )}
          <p role="status" className="min-h-6 flex-1 basis-60 font-medium">
            {words(state, live, elsewhere)}
          </p>
        </div>

        {state.problem && (
          <Notice tone="error" title="That did not work">
            {state.problem}
          </Notice>
        )}
        {mutedByOthers && (
          <Notice tone="warn" title="You are muted">
            Another host or moderator has muted you. Ask them to unmute you.
          </Notice>
        )}
        {live && view.hostAway?.until && state.phase === "off_air" && (
          <Notice
            tone="warn"
            title={
              heard
                ? `${view.names[heard.userId] ?? "A speaker"} is on the stage`
                : "Listeners hear silence"
            }
          >
            Resume by {formatTime(view.hostAway.until)}, or the show ends by itself.
          </Notice>
        )}

        <Speakers view={view} />
        <StageSound broadcastId={broadcast.id} view={view} active={sending} />

        <div>
          <p className="mb-2 flex justify-between font-medium">
            Microphone level
            {state.paused && <span className="text-signal">paused</span>}
          </p>
          <LevelMeter label="Microphone level" target={meter} />
        </div>

        <MicrophoneSetup host={host} state={state} sending={sending} />
        <Quality stats={stats} view={view} sending={sending} />
        <ConnectionDetails stats={host.stats} />
      </div>
      <FloatingReactions room={room} />
      <Dialog open={handing} onClose={() => setHanding(false)} title="Leave the stage?">
        <p className="mb-5 text-muted">
          The others on the stage are still heard, and the show goes on. Come back with “Resume
          show” within a minute, or the show ends by itself.
        </p>
        <div className="flex flex-wrap justify-end gap-2">
          <Button look="quiet" onClick={() => setHanding(false)}>
            Stay
          </Button>
          <Button
            look="primary"
            onClick={() => {
              setHanding(false);
              host.stepDown();
            }}
          >
            Leave
          </Button>
        </div>
      </Dialog>
      <Dialog open={ending} onClose={() => setEnding(false)} title="End this show for everyone?">
        <p className="mb-5 text-muted">
          Listeners are disconnected, and an ended show cannot go live again.
        </p>
        <div className="flex flex-wrap justify-end gap-2">
          <Button look="quiet" onClick={() => setEnding(false)}>
            Keep going
          </Button>
          <Button
            look="signal"
            onClick={() => {
              setEnding(false);
              void host.end();
            }}
          >
            End for everyone
          </Button>
        </div>
      </Dialog>
    </Card>
  );
}

function words(state: HostState, live: boolean, elsewhere: boolean): string {
  switch (state.phase) {
    case "starting":
      return state.microphone === "asking" ? "Allow the microphone to go on." : "Going live…";
    case "on_air":
      return state.paused ? "On air, but paused: listeners hear silence." : "You are on air.";
    case "reconnecting":
      return "The connection broke. Reconnecting…";
    case "ending":
      return "Ending the show…";
    case "off_air":
      if (elsewhere) return "You are on air from another window or an encoder.";
      return live
        ? "The show is live, but nothing is sent from here."
        : "Off air. Nobody hears you.";
  }
}

const STATS_EVERY_MS = 2000;

function useLinkStats(host: Host, active: boolean): LinkStats | null {
  const [stats, setStats] = useState<LinkStats | null>(null);
  const read = useCallback(() => {
    host.stats().then(setStats);
  }, [host]);
  useEffect(() => {
    if (!active) {
      setStats(null);
      return;
    }
    const timer = setInterval(read, STATS_EVERY_MS);
    return () => clearInterval(timer);
  }, [active, read]);
  return stats;
}

function quality({ lossRatio, roundTripMs }: LinkStats): string {
  const loss = lossRatio ?? 0;
  const delay = roundTripMs ?? 0;
  if (loss < 0.02 && delay < 200) return "good";
  if (loss < 0.08 && delay < 400) return "fair";
  return "poor: move nearer to the Wi-Fi, or use a cable";
}

function Quality({
  stats,
  view,
  sending,
}: {
  stats: LinkStats | null;
  view: RoomView;
  sending: boolean;
}) {
  if (!sending) return null;
  return (
    <dl className="grid min-h-12 gap-x-6 gap-y-1 text-sm sm:grid-cols-2">
      <div>
        <dt className="text-muted">Your connection</dt>
        <dd className="font-medium tabular-nums">
          {stats ? quality(stats) : "measuring…"}
          {stats?.roundTripMs != null && ` · ${Math.round(stats.roundTripMs)} ms`}
        </dd>
      </div>
      <div>
        <dt className="text-muted">Your listeners</dt>
        <dd className="font-medium tabular-nums">
          {plural(view.stats?.listeners ?? view.listenerCount, "listener")}
          {view.stats && view.stats.weakListeners > 0
            ? `, ${view.stats.weakListeners} on a weak network`
            : ", all well connected"}
        </dd>
      </div>
    </dl>
  );
}

/** Renewing a secret is for whoever the show belongs to. */
const owns = ({ yourRole }: Broadcast) => yourRole === "host" || yourRole === "admin";

function ShareCard({ studio, broadcast }: { studio: Studio; broadcast: Broadcast }) {
  const { api } = useLac();
  const { id, room } = studio;
  if (broadcast.visibility === "private" && broadcast.invite) {
    return (
      <Card title="Invite listeners">
        <div className="grid gap-4">
          <CopyField label="Invite link" value={inviteLink(id, broadcast.invite)} />
          <p className="text-sm text-muted">
            This show is private. Whoever has the link can listen, with or without an account.
          </p>
          {owns(broadcast) && (
            <Renew
              label="New invite link"
              question="Replace the invite link?"
              work={async () => room.update(await api.renewInvite(id))}
            >
              The present link stops working, and everyone who came by it is let go. Those who have
              a part in the show stay.
            </Renew>
          )}
        </div>
      </Card>
    );
  }
  return (
    <Card title="Invite listeners">
      <CopyField
        label="Link to the show"
        value={`${window.location.origin}/b/${encodeURIComponent(id)}`}
      />
    </Card>
  );
}

function EncoderCard({ studio, broadcast }: { studio: Studio; broadcast: Broadcast }) {
  const { api } = useLac();
  if (!broadcast.streamKey) return null;
  return (
    <details className="rounded-card border border-line bg-surface shadow-card">
      <summary className="min-h-11 px-4 py-3 text-lg font-semibold sm:px-5">
        Send from OBS or another encoder
      </summary>
      <div className="grid gap-4 px-4 pb-5 sm:px-5">
        <p className="text-muted">
          In OBS, open Settings, then Stream. Choose the service WHIP, and paste these two. The show
          goes live as soon as the encoder connects.
        </p>
        <CopyField
          label="Server"
          value={`${window.location.origin}/whip/${encodeURIComponent(studio.id)}`}
        />
        <CopyField label="Stream key" value={broadcast.streamKey} secret />
        <p className="text-sm text-muted">
          OBS calls the key “Bearer Token”. Whoever has it can speak in your show: keep it to
          yourself.
        </p>
        <p className="text-muted">
          BUTT, Mixxx and other Icecast sources: server {window.location.hostname}, port{" "}
          {window.location.port || (window.location.protocol === "https:" ? 443 : 80)}, user
          “source”, the key above as the password, and this mount point.
        </p>
        <CopyField label="Mount point" value={`/source/${encodeURIComponent(studio.id)}`} />
        {owns(broadcast) && (
          <Renew
            label="New stream key"
            question="Replace the stream key?"
            work={async () => studio.room.update(await api.renewStreamKey(studio.id))}
          >
            The present key stops working, and an encoder that uses it is cut off.
          </Renew>
        )}
      </div>
    </details>
  );
}

function Ended({ broadcast }: { broadcast: Broadcast }) {
  const { startedAt, endedAt } = broadcast;
  const lasted = startedAt && endedAt ? Date.parse(endedAt) - Date.parse(startedAt) : null;
  return (
    <Card>
      <p role="status" className="text-xl font-semibold">
        The show has ended
      </p>
      {lasted !== null && <p className="mt-1 text-muted">You were on for {formatClock(lasted)}.</p>}
      <div className="mt-4 flex flex-wrap gap-2">
        <ButtonLink to={`/b/${encodeURIComponent(broadcast.id)}`} look="primary">
          Recording and chat
        </ButtonLink>
        <ButtonLink to="/host?new">Plan the next one</ButtonLink>
        <ButtonLink to="/host">My shows</ButtonLink>
      </div>
    </Card>
  );
}
