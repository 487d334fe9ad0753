import {
  type Broadcast,
  mayHost,
  mayModerate,
  type PlayerState,
  type Room,
  type RoomView,
} from "@lac/client";
import { useEffect, useRef, useState } from "react";
import { useParams } from "react-router";
import { useStore } from "zustand";
import { Bans } from "../components/Bans";
import { Chat } from "../components/Chat";
import { ChatSettings } from "../components/ChatSettings";
import { ConnectionDetails } from "../components/ConnectionDetails";
import { LevelMeter } from "../components/LevelMeter";
import { ListenButton, SaveData, Volume } from "../components/ListenControls";
import { useName } from "../components/NameDialog";
import { Invitation, type Speaking, StagePanel, useSpeaking } from "../components/OnStage";
import { OtherPlayers } from "../components/OtherPlayers";
import { People } from "../components/People";
import { RaiseHand } from "../components/RaiseHand";
import { FloatingReactions, ReactionBar } from "../components/Reactions";
import { RecordingBadge } from "../components/Recorder";
import { type Replay, ReplayPlayer, useReplay } from "../components/Replay";
import { ReplayChat } from "../components/ReplayChat";
import { Rewind } from "../components/Rewind";
import { useRoomProblem } from "../components/RoomProblem";
import { Speakers } from "../components/Speakers";
import { WaitingRoom } from "../components/WaitingRoom";
import { audioContext, useLevel } from "../lib/audio";
import { useHlsPlayback, useMediaKeys, usePlayback } from "../lib/playback";
import { useChangeOver, usePlayer } from "../lib/player";
import { useRoom } from "../lib/room";
import { chooseSaving, savesData } from "../lib/saving";
import { formatClock, formatTime, plural } from "../lib/time";
import { Button, ButtonLink } from "../ui/Button";
import { HeadphonesIcon, StopIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";
import { StatusBadge } from "../ui/StatusBadge";

export default function PlayerPage() {
  const { id = "" } = useParams();
  const room = useRoom(id);
  const view = useStore(room.store);
  const problem = useRoomProblem(room, view);
  return (
    <>
      <title>{`${view.broadcast?.title ?? "Show"} · LiveAudioCast`}</title>
      {problem ?? (view.broadcast && <Show room={room} view={view} broadcast={view.broadcast} />)}
    </>
  );
}

const CHAT_PLACE =
  "h-[min(34rem,75dvh)] lg:sticky lg:top-6 lg:row-span-2 lg:h-[min(46rem,calc(100dvh-9rem))]";

function Show({ room, view, broadcast }: { room: Room; view: RoomView; broadcast: Broadcast }) {
  const { ensureName, nameDialog } = useName(room);
  const speaking = useSpeaking(room, view);
  const ended = broadcast.status === "ended";
  const replay = useReplay(room, broadcast);
  // Who may host has the console for it.
  const moderates = mayModerate(view.you?.role) && !mayHost(view.you?.role) && !ended;
  return (
    <div className="grid gap-5 lg:grid-cols-[minmax(0,1fr)_24rem] lg:items-start">
      <div className="grid min-w-0 gap-5">
        {view.problem && <Notice tone="warn">{view.problem}</Notice>}
        <Invitation room={room} view={view} speaker={speaking.speaker} />
        {speaking.onStage && <StagePanel view={view} speaking={speaking} />}
        {speaking.away && (
          <Notice
            title="You have left the stage"
            action={<Button onClick={speaking.stepUp}>Back to the stage</Button>}
          >
            Nobody hears you. You may still come back.
          </Notice>
        )}
        {speaking.returned && (
          <Notice title="You are back in the audience">
            Thank you for speaking. Raise your hand to be invited again.
          </Notice>
        )}
        <Stage
          room={room}
          view={view}
          broadcast={broadcast}
          ensureName={ensureName}
          speaking={speaking}
          replay={replay}
        />
      </div>
      {replay.current ? (
        <ReplayChat chat={replay.details.chat} position={replay.position} className={CHAT_PLACE} />
      ) : (
        <Chat
          room={room}
          beforeSpeaking={ensureName}
          disabled={ended ? "The show has ended, and the chat is closed." : null}
          className={CHAT_PLACE}
        />
      )}
      {moderates && (
        <div className="grid min-w-0 gap-5">
          <People room={room} view={view} />
          <ChatSettings room={room} view={view} />
          <Bans id={room.id} />
        </div>
      )}
      {nameDialog}
    </div>
  );
}

function Stage({
  room,
  view,
  broadcast,
  ensureName,
  speaking,
  replay,
}: {
  room: Room;
  view: RoomView;
  broadcast: Broadcast;
  ensureName: () => Promise<boolean>;
  speaking: Speaking;
  replay: Replay;
}) {
  const [saves, setSaves] = useState(savesData);
  const audio = useRef<HTMLAudioElement>(null);
  // One element for each way: one that changes from a stream to a source stops, and the page has to ask to sound again.
  const hlsAudio = useRef<HTMLAudioElement>(null);
  const player = usePlayer(room, speaking.speaker, saves, hlsAudio);
  const state = useStore(player.store);
  const meter = useRef<HTMLDivElement>(null);
  const ring = useRef<HTMLSpanElement>(null);
  const [armed, setArmed] = useState(false);
  const webRtc = usePlayback(audio, state.track);
  const hls = useHlsPlayback(hlsAudio, state);
  const { blocked, play } = state.via === "hls" ? hls : webRtc;
  useLevel(state.track ?? hls.track, [meter, ring]);
  useChangeOver(player, view, speaking.onStage);

  const { status } = broadcast;
  // The host is away, and somebody else is heard.
  const guest = view.hostAway ? view.producers.find((p) => p.userId !== broadcast.host.id) : null;
  useEffect(() => {
    // By HLS there are some seconds left to hear, or all of it for somebody who has gone back.
    if (status === "ended" && player.store.getState().via !== "hls")
      player.stop({ serverKnows: true });
    if (status === "live" && armed) {
      setArmed(false);
      player.start();
    }
  }, [status, armed, player]);

  /** In the click itself: browsers let a page make sound only then. */
  const unlock = () => {
    audioContext();
    audio.current?.play().catch(() => undefined);
    hlsAudio.current?.play().catch(() => undefined);
  };
  const listen = () => {
    unlock();
    player.start();
  };
  useMediaKeys(broadcast, state.phase !== "stopped", listen, () => player.stop());

  return (
    <section
      aria-label="Player"
      className="relative rounded-card border border-line bg-surface p-5 shadow-card sm:p-7"
    >
      <audio ref={audio} muted={speaking.heard} className="hidden" />
      <audio ref={hlsAudio} muted={speaking.heard} className="hidden" />
      <div className="flex flex-wrap items-center justify-between gap-3">
        <span className="flex flex-wrap items-center gap-2">
          <StatusBadge status={status} away={view.hostAway !== null} />
          <RecordingBadge state={view.recording} />
        </span>
        {status !== "ended" && (
          <span className="inline-flex items-center gap-1.5 text-muted tabular-nums">
            <HeadphonesIcon width={18} height={18} />
            {plural(view.listenerCount, "listener")}
          </span>
        )}
      </div>
      <h1 className="mt-3 text-2xl font-semibold tracking-tight wrap-anywhere sm:text-3xl">
        {broadcast.title}
      </h1>
      <p className="mt-1 text-muted">with {broadcast.host.displayName}</p>
      {mayHost(broadcast.yourRole) && status !== "ended" && (
        <ButtonLink
          to={`/host/${encodeURIComponent(broadcast.id)}`}
          size="small"
          className="mt-3 w-fit"
        >
          Open host console
        </ButtonLink>
      )}

      {status === "scheduled" && (
        <WaitingRoom
          broadcast={broadcast}
          armed={armed}
          onArm={() => {
            unlock();
            setArmed(!armed);
          }}
        />
      )}
      {status === "ended" && state.via === "hls" && state.position && (
        <div className="mt-5 grid justify-items-center gap-4">
          <p role="status">You hear the rest of it.</p>
          <Rewind player={player} position={state.position} />
          <Volume audio={[audio, hlsAudio]} />
          <Button icon={<StopIcon />} onClick={() => player.stop()}>
            Stop
          </Button>
        </div>
      )}
      {status === "ended" && (
        <div className="mt-6">
          <ReplayPlayer replay={replay} />
          {replay.current === null && <Ended broadcast={broadcast} />}
        </div>
      )}
      {status === "live" && (
        <>
          <div className="relative mt-6 flex flex-col items-center gap-5">
            <ListenButton
              phase={state.phase}
              ring={ring}
              onListen={listen}
              onStop={() => player.stop()}
            />
            <p role="status" className="min-h-6 text-center font-medium">
              {words(state)}
            </p>
            <div className="w-full max-w-md">
              <LevelMeter label="Sound level" target={meter} />
            </div>
            {state.via === "hls" && state.position && (
              <Rewind player={player} position={state.position} />
            )}
            <Volume audio={[audio, hlsAudio]} />
            {state.via !== "hls" && (
              <SaveData
                saves={saves}
                onChange={(wanted) => {
                  chooseSaving(wanted);
                  setSaves(wanted);
                }}
              />
            )}
            <FloatingReactions room={room} />
          </div>
          <div className="mt-5 flex justify-center empty:hidden">
            <Speakers view={view} />
          </div>
          <div className="mt-4 grid gap-3 empty:hidden">
            {view.hostAway && (
              <Notice
                tone="warn"
                title={
                  guest
                    ? `${view.names[guest.userId] ?? "A speaker"} is on the stage`
                    : "The host has lost the connection"
                }
              >
                {guest
                  ? "The host has left the stage to them."
                  : "Stay: the sound comes back by itself as soon as they are here again."}
                {view.hostAway.until &&
                  ` If they do not return by ${formatTime(view.hostAway.until)}, the show ends.`}
              </Notice>
            )}
            {blocked && (
              <Notice
                tone="warn"
                title="The browser holds the sound back"
                action={
                  <Button look="primary" onClick={play}>
                    Play sound
                  </Button>
                }
              >
                It waits for a press of yours.
              </Notice>
            )}
            {state.phase === "failed" && (
              <Notice tone="error" title="You cannot hear the show">
                {failure(state)}
              </Notice>
            )}
          </div>
        </>
      )}

      {status === "live" && (
        <div className="mt-6 flex flex-wrap items-center justify-center gap-x-4 gap-y-3 border-t border-line pt-5">
          <ReactionBar room={room} disabled={view.socket.name !== "joined"} />
          {(view.you?.role === "listener" || view.you === null) && (
            <RaiseHand room={room} view={view} ensureName={ensureName} />
          )}
        </div>
      )}
      <p role="status" className="min-h-6 pt-2 text-center text-sm text-muted">
        {socketWords(view, status)}
      </p>
      {broadcast.description && (
        <p className="mt-3 max-w-prose wrap-anywhere whitespace-pre-wrap">
          {broadcast.description}
        </p>
      )}
      {status === "live" && (
        <div className="mt-5 grid gap-3">
          <OtherPlayers room={room} />
          <ConnectionDetails stats={player.stats} />
        </div>
      )}
    </section>
  );
}

function words({ phase, via, position }: PlayerState): string {
  if (phase === "playing" && via === "hls") {
    if (position && !position.live) return "You hear what was said before";
    return "You are listening live, a few seconds behind";
  }
  switch (phase) {
    case "stopped":
      return "Press Listen to hear the show";
    case "connecting":
      return "Connecting…";
    case "playing":
      return "You are listening live";
    case "reconnecting":
      return "The sound broke off. Reconnecting…";
    case "failed":
      return "Not connected";
  }
}

function failure({ code, problem }: PlayerState): string {
  if (code === "not_live") return "The show is not on air yet. Wait a moment, then press Listen.";
  if (code === "removed") return "You were removed from this show.";
  return `${problem ?? "Something went wrong."} Press Listen to try again.`;
}

function socketWords(view: RoomView, status: Broadcast["status"]): string {
  if (status === "ended") return "";
  if (view.socket.name === "reconnecting") return "Chat and reactions are reconnecting…";
  return "";
}

function Ended({ broadcast }: { broadcast: Broadcast }) {
  const { startedAt, endedAt } = broadcast;
  const lasted = startedAt && endedAt ? Date.parse(endedAt) - Date.parse(startedAt) : null;
  return (
    <div className="mt-4 flex flex-col items-center gap-3 rounded-2xl bg-sunken px-4 py-10 text-center">
      <p role="status" className="text-xl font-semibold">
        This show has ended
      </p>
      {lasted !== null && <p className="text-muted">It lasted {formatClock(lasted)}.</p>}
      <ButtonLink to="/" look="primary" className="mt-2">
        See what else is on
      </ButtonLink>
    </div>
  );
}
