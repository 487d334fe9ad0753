import {
  type Broadcast,
  createPlayer,
  type Host,
  mayHost,
  mayModerate,
  maySpeak,
  messageOf,
  NOTE_MAX,
  type OpenListen,
  type Player,
  type PlayerState,
  type Room,
  type RoomView,
} from "@lac/client";
import { type RefObject, useEffect, useId, useMemo, useRef, useState } from "react";
import { useParams } from "react-router";
import { useStore } from "zustand";
import { Bans } from "../components/Bans";
import { Chat } from "../components/Chat";
import { ChatSettings } from "../components/ChatSettings";
import { ConnectionDetails } from "../components/ConnectionDetails";
import { LevelMeter } from "../components/LevelMeter";
import { useName } from "../components/NameDialog";
import { Invitation, type Speaking, StagePanel, useSpeaking } from "../components/OnStage";
import { OtherPlayers } from "../components/OtherPlayers";
import { People } from "../components/People";
import { FloatingReactions, ReactionBar } from "../components/Reactions";
import { RecordingBadge } from "../components/Recorder";
import { type Replay, ReplayPlayer, useReplay } from "../components/Replay";
import { ReplayChat } from "../components/ReplayChat";
import { Rewind } from "../components/Rewind";
import { useRoomProblem } from "../components/RoomProblem";
import { Speakers } from "../components/Speakers";
import { audioContext, useLevel } from "../lib/audio";
import { offerDiagnostics } from "../lib/diagnostics";
import { useNow, useWakeUp } from "../lib/hooks";
import { useRoom } from "../lib/room";
import { chooseSaving, savesData, variantFor } from "../lib/saving";
import { formatClock, formatCountdown, formatDateTime, formatTime, plural } from "../lib/time";
import { useServices } from "../services";
import { Button, ButtonLink } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { HandIcon, HeadphonesIcon, PlayIcon, StopIcon, VolumeIcon } from "../ui/icons";
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
  useChangeOver(player, view, speaking);

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

function usePlayer(
  room: Room,
  speaker: Host,
  saves: boolean,
  hlsAudio: RefObject<HTMLAudioElement | null>,
): Player {
  const { lac, loadWebRtc, loadHls } = useServices();
  const saving = useRef(saves);
  const player = useMemo(() => {
    const openListen: OpenListen = async (handlers) => {
      const { listen } = await loadWebRtc();
      return listen({
        broadcastId: room.id,
        request: lac.api.request,
        auth: room.mediaAuth,
        variant: () => variantFor(saving.current),
        ...handlers,
      });
    };
    const find = () => lac.api.hlsAddress(room.id, room.mediaAuth());
    return createPlayer(openListen, {
      find,
      told: () => room.store.getState().hls ?? null,
      open: async (address, handlers) => {
        const { playHls } = await loadHls();
        const audio = hlsAudio.current;
        if (!audio) throw new Error("The page has gone.");
        return playHls(address, { audio, renew: find, ...handlers });
      },
    });
  }, [lac, loadWebRtc, loadHls, room, hlsAudio]);
  useEffect(() => {
    room.listenBy(player.heardAt);
    return () => room.listenBy(null);
  }, [room, player]);
  useEffect(() => {
    if (saving.current === saves) return;
    saving.current = saves;
    player.renew();
  }, [player, saves]);
  useEffect(() => {
    const leave = () => player.stop({ leavingPage: true });
    window.addEventListener("pagehide", leave);
    const withdraw = offerDiagnostics({
      get remoteTrack() {
        return player.store.getState().track;
      },
      get localTrack() {
        return speaker.store.getState().track;
      },
      heardAt: player.heardAt,
      stats: player.stats,
      rawStats: player.rawStats,
    });
    return () => {
      window.removeEventListener("pagehide", leave);
      withdraw();
      player.stop({ serverKnows: room.store.getState().phase === "removed" });
    };
  }, [player, room, speaker]);
  useWakeUp(() => player.retryNow());
  return player;
}

/** Plays `track` through the element. Without one in the page, browsers do not decode a remote track at all. */
function usePlayback(audio: RefObject<HTMLAudioElement | null>, track: MediaStreamTrack | null) {
  const [blocked, setBlocked] = useState(false);
  useEffect(() => {
    const element = audio.current;
    if (!element) return;
    setBlocked(false);
    if (!track) {
      element.srcObject = null;
      return;
    }
    element.srcObject = new MediaStream([track]);
    element.play().catch((error: unknown) => {
      if (error instanceof Error && error.name === "NotAllowedError") setBlocked(true);
    });
  }, [audio, track]);
  const play = () => {
    audioContext();
    audio.current?.play().then(
      () => setBlocked(false),
      () => undefined,
    );
  };
  return { blocked, play };
}

/** The same for the element that hls.js plays through, which starts it by itself. */
function useHlsPlayback(audio: RefObject<HTMLAudioElement | null>, { via, phase }: PlayerState) {
  const [blocked, setBlocked] = useState(false);
  const [track, setTrack] = useState<MediaStreamTrack | null>(null);
  const playing = via === "hls" && phase === "playing";
  useEffect(() => {
    setBlocked(false);
    const element = audio.current;
    if (via !== "hls" || !element) return;
    // Refused before it has anything to play: it says so in no other way.
    const look = () => setBlocked(element.paused && !element.ended && element.readyState >= 2);
    element.addEventListener("canplay", look);
    element.addEventListener("playing", look);
    return () => {
      element.removeEventListener("canplay", look);
      element.removeEventListener("playing", look);
    };
  }, [audio, via]);
  useEffect(() => {
    // Only to be measured. Not in every browser, thus not in the types.
    const element = audio.current as { captureStream?: () => MediaStream } | null;
    if (!playing || !element?.captureStream) return;
    const stream = element.captureStream();
    // It comes a moment later, and another one after each leap in time.
    const take = () =>
      setTrack(stream.getAudioTracks().find(({ readyState }) => readyState === "live") ?? null);
    take();
    stream.addEventListener("addtrack", take);
    stream.addEventListener("removetrack", take);
    return () => {
      stream.removeEventListener("addtrack", take);
      stream.removeEventListener("removetrack", take);
      setTrack(null);
    };
  }, [audio, playing]);
  const play = () => {
    audioContext();
    audio.current?.play().then(
      () => setBlocked(false),
      () => undefined,
    );
  };
  return { blocked, play, track };
}

/** Back to WebRTC when the server says that there is room, and at once for who is to speak. */
function useChangeOver(player: Player, view: RoomView, speaking: Speaking): void {
  const offers = view.webRtcOffers;
  const answered = useRef(offers);
  useEffect(() => {
    if (offers === answered.current) return;
    answered.current = offers;
    const { position } = player.store.getState();
    // Somebody who has gone back is where they want to be.
    if (position === null || position.live) player.changeToWebRtc();
  }, [player, offers]);
  const speaks = speaking.onStage || maySpeak(view.you?.role);
  const { via } = useStore(player.store);
  useEffect(() => {
    if (speaks && via === "hls") player.changeToWebRtc(true);
  }, [player, speaks, via]);
}

/** The lock screen and the keys of headphones know what is playing. */
function useMediaKeys(
  broadcast: Broadcast,
  active: boolean,
  onPlay: () => void,
  onStop: () => void,
): void {
  const { title, host } = broadcast;
  const latest = useRef({ onPlay, onStop });
  useEffect(() => {
    latest.current = { onPlay, onStop };
  });
  useEffect(() => {
    const session = navigator.mediaSession;
    if (!session || !active || typeof MediaMetadata === "undefined") return;
    session.metadata = new MediaMetadata({ title, artist: host.displayName });
    session.setActionHandler("play", () => latest.current.onPlay());
    session.setActionHandler("pause", () => latest.current.onStop());
    session.setActionHandler("stop", () => latest.current.onStop());
    return () => {
      session.metadata = null;
      for (const action of ["play", "pause", "stop"] as const)
        session.setActionHandler(action, null);
    };
  }, [title, host.displayName, active]);
}

function ListenButton({
  phase,
  ring,
  onListen,
  onStop,
}: {
  phase: PlayerState["phase"];
  ring: RefObject<HTMLSpanElement | null>;
  onListen: () => void;
  onStop: () => void;
}) {
  const active = phase !== "stopped" && phase !== "failed";
  return (
    <div className="relative my-3 size-40">
      <span ref={ring} className="listen-ring" aria-hidden="true" />
      <button
        type="button"
        aria-label={active ? "Stop listening" : "Listen"}
        onClick={active ? onStop : onListen}
        className={`relative flex size-40 flex-col items-center justify-center gap-1 rounded-full border-2 text-lg font-semibold transition-colors focus-visible:rounded-full ${
          active
            ? "border-accent bg-surface text-accent hover:bg-accent-soft"
            : "border-transparent bg-accent text-on-accent hover:bg-accent-hover"
        }`}
      >
        {active ? <StopIcon width={44} height={44} /> : <PlayIcon width={52} height={52} />}
        {active ? "Stop" : "Listen"}
      </button>
    </div>
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

function Volume({ audio }: { audio: readonly RefObject<HTMLAudioElement | null>[] }) {
  const [percent, setPercent] = useState(100);
  return (
    <label className="flex min-h-11 w-full max-w-md items-center gap-3 text-muted">
      <VolumeIcon />
      <span className="sr-only">Volume</span>
      <input
        type="range"
        min={0}
        max={100}
        value={percent}
        onChange={(event) => {
          const value = event.target.valueAsNumber;
          setPercent(value);
          for (const { current } of audio) if (current) current.volume = value / 100;
        }}
        className="h-11 w-full accent-accent"
      />
    </label>
  );
}

/** Fewer, larger packets: for those who pay for each megabyte. Takes effect at once. */
function SaveData({ saves, onChange }: { saves: boolean; onChange: (saves: boolean) => void }) {
  const hint = useId();
  return (
    <label className="flex min-h-11 w-full max-w-md cursor-pointer items-center gap-3 text-muted">
      <input
        type="checkbox"
        role="switch"
        checked={saves}
        aria-checked={saves}
        aria-describedby={hint}
        onChange={(event) => onChange(event.target.checked)}
        className="size-5 shrink-0 accent-accent"
      />
      <span>
        Save data{" "}
        <span id={hint} className="text-sm">
          (about a quarter less; the sound comes a moment later)
        </span>
      </span>
    </label>
  );
}

function WaitingRoom({
  broadcast,
  armed,
  onArm,
}: {
  broadcast: Broadcast;
  armed: boolean;
  onArm: () => void;
}) {
  const now = useNow(1000);
  const left = broadcast.scheduledAt ? Date.parse(broadcast.scheduledAt) - now : null;
  return (
    <div className="mt-6 flex flex-col items-center gap-4 rounded-2xl bg-sunken px-4 py-8 text-center">
      {left !== null && left > 0 && broadcast.scheduledAt ? (
        <>
          <p className="text-muted">Starts in</p>
          <p role="timer" className="text-4xl font-semibold tabular-nums">
            {formatCountdown(left)}
          </p>
          <p>
            <time dateTime={broadcast.scheduledAt}>{formatDateTime(broadcast.scheduledAt)}</time>
          </p>
        </>
      ) : (
        <>
          <p className="text-xl font-semibold">
            {left === null ? "Not started yet" : "Starting any moment"}
          </p>
          <p className="text-muted">You are in the waiting room. The chat is open.</p>
        </>
      )}
      <Button
        look={armed ? "outline" : "primary"}
        size="large"
        aria-pressed={armed}
        onClick={onArm}
      >
        Listen when it starts
      </Button>
      <p role="status" className="min-h-6 text-sm text-muted">
        {armed && "Keep this page open: the sound starts by itself."}
      </p>
    </div>
  );
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

function RaiseHand({
  room,
  view,
  ensureName,
}: {
  room: Room;
  view: RoomView;
  ensureName: () => Promise<boolean>;
}) {
  const [problem, setProblem] = useState<string | null>(null);
  const [asking, setAsking] = useState(false);
  const [note, setNote] = useState("");
  const position = view.hands.findIndex((hand) => hand.userId === view.you?.id) + 1;
  const raised = position > 0;
  async function act(work: () => Promise<void>) {
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(messageOf(error));
    }
  }
  const raise = (note?: string) =>
    act(async () => {
      if (await ensureName()) await room.raiseHand(note);
    });
  return (
    <div className="flex flex-wrap items-center justify-center gap-x-3 gap-y-1">
      <Button
        look={raised ? "primary" : "outline"}
        icon={<HandIcon />}
        onClick={() => void (raised ? act(() => room.lowerHand()) : raise())}
        disabled={view.socket.name !== "joined"}
      >
        {raised ? "Lower hand" : "Raise hand"}
      </Button>
      {raised && (
        <Button look="quiet" onClick={() => setAsking(true)}>
          Add a note
        </Button>
      )}
      <span role="status" className="text-sm text-muted empty:hidden">
        {raised && `Your hand is up, number ${position} in the queue.`}
        {problem}
      </span>
      <Dialog open={asking} onClose={() => setAsking(false)} title="What is it about?">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            setAsking(false);
            void raise(note.trim());
          }}
        >
          <TextField
            label="Note"
            hint="Everyone in this show can see it."
            maxLength={NOTE_MAX}
            value={note}
            onChange={(event) => setNote(event.target.value)}
          />
          <div className="mt-5 flex flex-wrap justify-end gap-2">
            <Button look="quiet" onClick={() => setAsking(false)}>
              Cancel
            </Button>
            <Button type="submit" look="primary">
              Save
            </Button>
          </div>
        </form>
      </Dialog>
    </div>
  );
}
