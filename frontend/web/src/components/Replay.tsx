import { type Broadcast, type Chapter, messageOf, type Recording, type Room } from "@lac/client";
import { type RefObject, useCallback, useEffect, useId, useMemo, useRef, useState } from "react";
import {
  audioPath,
  barsOf,
  isOpen,
  isUnfinished,
  useRecordingDetails,
  useRecordings,
} from "../lib/recordings";
import { formatClock, formatDateTime, plural } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { PauseIcon, PlayIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";
import { NothingKept, PartlyKept } from "./FailedRecording";
import { RecordingFiles } from "./RecordingFiles";

const BARS = 160;
const SPEEDS = [0.75, 1, 1.25, 1.5, 2];
const BACK_S = 15;
const FORTH_S = 30;
/** What recordings are; not every browser plays it. */
const OGG_OPUS = "audio/ogg; codecs=opus";

export interface Replay {
  broadcast: Broadcast;
  recordings: readonly Recording[] | null;
  problem: unknown;
  reload: () => void;
  current: Recording | null;
  choose: (id: string) => void;
  details: ReturnType<typeof useRecordingDetails>;
  auth: ReturnType<Room["mediaAuth"]>;
  /** Seconds from the beginning of `current`. */
  position: number;
  setPosition: (seconds: number) => void;
}

/** What a show that is over can be heard again by. */
export function useReplay(room: Room, broadcast: Broadcast): Replay {
  const auth = room.mediaAuth();
  const { recordings, problem, reload } = useRecordings(broadcast, auth);
  const [chosen, choose] = useState<string | null>(null);
  const [position, setPosition] = useState(0);
  const audible = recordings?.filter(({ playable }) => playable) ?? [];
  const current = audible.find(({ id }) => id === chosen) ?? audible[0] ?? null;
  const details = useRecordingDetails(current?.id ?? null, auth);
  return {
    broadcast,
    recordings,
    problem,
    reload,
    current,
    choose: (id) => {
      choose(id);
      setPosition(0);
    },
    details,
    auth,
    position,
    setPosition,
  };
}

export function ReplayPlayer({ replay }: { replay: Replay }) {
  const { broadcast, recordings, problem, reload, current, choose } = replay;
  if (problem)
    return (
      <Notice
        tone="error"
        title="The recordings could not be loaded"
        action={<Button onClick={reload}>Try again</Button>}
      >
        {messageOf(problem)}
      </Notice>
    );
  if (recordings === null) return null;
  const audible = recordings.filter(({ playable }) => playable);
  const silent = recordings.filter(({ status, playable }) => status === "failed" && !playable);
  const coming = recordings.some(isUnfinished);
  return (
    <div className="grid gap-5">
      {audible.length > 1 && (
        <label className="block max-w-md">
          <span className="mb-1.5 block font-medium">{plural(audible.length, "recording")}</span>
          <select
            className="input"
            value={current?.id}
            onChange={(event) => choose(event.target.value)}
          >
            {audible.map((recording) => (
              <option key={recording.id} value={recording.id}>
                {formatDateTime(recording.startedAt)} ·{" "}
                {formatClock((recording.durationS ?? 0) * 1000)}
                {recording.status === "failed" && " · not whole"}
              </option>
            ))}
          </select>
        </label>
      )}
      {current?.status === "failed" && <PartlyKept recording={current} />}
      {current && <Player key={current.id} replay={replay} recording={current} />}
      {coming && (
        <p role="status" className="text-center text-muted">
          A recording is being finished. It appears here in a moment.
        </p>
      )}
      {current && (
        <RecordingFiles
          broadcast={broadcast}
          recording={current}
          auth={replay.auth}
          onDeleted={reload}
        />
      )}
      {silent.map((recording) => (
        <NothingKept
          key={recording.id}
          broadcast={broadcast}
          recording={recording}
          onDeleted={reload}
        />
      ))}
    </div>
  );
}

function Player({ replay, recording }: { replay: Replay; recording: Recording }) {
  const { broadcast, details, auth, position, setPosition } = replay;
  const audio = useRef<HTMLAudioElement>(null);
  const { source, problem, load } = useSource(recording, broadcast, auth);
  const [playing, setPlaying] = useState(false);
  const [failed, setFailed] = useState(false);
  const duration = recording.durationS ?? 0;
  const playable = useMemo(() => document.createElement("audio").canPlayType(OGG_OPUS) !== "", []);

  const seek = (seconds: number) => {
    const to = Math.min(Math.max(0, seconds), duration);
    if (audio.current) audio.current.currentTime = to;
    setPosition(to);
  };
  const wanted = useRef(false);
  const playNow = useCallback(() => {
    wanted.current = false;
    audio.current?.play().catch(() => setFailed(true));
  }, []);
  const play = () => {
    setFailed(false);
    if (source !== null) return playNow();
    wanted.current = true;
    void load();
  };
  // What had to be fetched plays as soon as it is there.
  useEffect(() => {
    if (source !== null && wanted.current) playNow();
  }, [source, playNow]);

  if (!playable)
    return (
      <Notice tone="warn" title="This browser cannot play the recording here">
        It does not know Opus in Ogg. Save one of the files below, or open this page in another
        browser.
      </Notice>
    );
  return (
    <div className="grid gap-4">
      {/* biome-ignore lint/a11y/useMediaCaption: there is no transcript; what was written in the chat is shown beside it */}
      <audio
        ref={audio}
        src={source ?? undefined}
        preload="metadata"
        onPlay={() => setPlaying(true)}
        onPause={() => setPlaying(false)}
        onTimeUpdate={(event) => setPosition(event.currentTarget.currentTime)}
        onError={() => setFailed(source !== null)}
        className="hidden"
      />
      <div className="flex flex-wrap items-center justify-center gap-3">
        <Button onClick={() => seek(position - BACK_S)} aria-label={`Back ${BACK_S} seconds`}>
          −{BACK_S} s
        </Button>
        <button
          type="button"
          aria-label={playing ? "Pause" : "Play the recording"}
          onClick={() => (playing ? audio.current?.pause() : play())}
          className="inline-flex size-20 items-center justify-center rounded-full bg-accent text-on-accent transition-colors hover:bg-accent-hover focus-visible:rounded-full"
        >
          {playing ? <PauseIcon width={36} height={36} /> : <PlayIcon width={40} height={40} />}
        </button>
        <Button onClick={() => seek(position + FORTH_S)} aria-label={`Forward ${FORTH_S} seconds`}>
          +{FORTH_S} s
        </Button>
      </div>
      <Waveform
        bars={details.peaks ? barsOf(details.peaks, BARS) : null}
        position={position}
        duration={duration}
        onSeek={seek}
      />
      <div className="flex flex-wrap items-center justify-between gap-3">
        <p className="text-muted tabular-nums">
          {formatClock(position * 1000)} / {formatClock(duration * 1000)}
        </p>
        <Speed audio={audio} />
      </div>
      {recording.lostS > 0 && (
        <p className="text-sm text-muted">
          {formatClock(recording.lostS * 1000)} of it is silence, because the server could not write
          it down.
        </p>
      )}
      {(problem !== null || failed) && (
        <Notice tone="error" title="The recording cannot be played">
          {problem ?? "It broke off on its way. Check your connection and try again."}
        </Notice>
      )}
      <Chapters chapters={details.chapters} position={position} onSeek={seek} />
    </div>
  );
}

/** Where the audio comes from. What is not open is fetched when it is wanted. */
function useSource(recording: Recording, broadcast: Broadcast, auth: Replay["auth"]) {
  const { api } = useLac();
  const path = audioPath(recording.id);
  const direct = isOpen(broadcast, recording);
  const [fetched, setFetched] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => () => (fetched ? URL.revokeObjectURL(fetched) : undefined), [fetched]);
  const load = async () => {
    if (direct || fetched) return;
    setProblem(null);
    try {
      setFetched(URL.createObjectURL(await api.file(path, auth)));
    } catch (error) {
      setProblem(messageOf(error));
    }
  };
  return { source: direct ? path : fetched, problem, load };
}

/** The recording as it looks, and a slider over it. */
function Waveform({
  bars,
  position,
  duration,
  onSeek,
}: {
  bars: number[] | null;
  position: number;
  duration: number;
  onSeek: (seconds: number) => void;
}) {
  const share = duration > 0 ? position / duration : 0;
  return (
    <div className="relative h-16">
      {bars && (
        <svg
          viewBox={`0 0 ${bars.length} 64`}
          preserveAspectRatio="none"
          aria-hidden="true"
          className="absolute inset-0 size-full"
        >
          {bars.map((level, index) => {
            const height = Math.max(2, level * 60);
            return (
              <rect
                // biome-ignore lint/suspicious/noArrayIndexKey: a bar is its place
                key={index}
                x={index + 0.15}
                y={32 - height / 2}
                width={0.7}
                height={height}
                className={index / bars.length < share ? "fill-accent" : "fill-line-strong"}
              />
            );
          })}
        </svg>
      )}
      <input
        type="range"
        aria-label="Position"
        aria-valuetext={`${formatClock(position * 1000)} of ${formatClock(duration * 1000)}`}
        min={0}
        max={Math.max(1, Math.floor(duration))}
        step={1}
        value={position}
        onChange={(event) => onSeek(event.target.valueAsNumber)}
        className={`absolute inset-x-0 h-11 w-full accent-accent ${bars ? "top-8" : "top-3"}`}
      />
    </div>
  );
}

function Speed({ audio }: { audio: RefObject<HTMLAudioElement | null> }) {
  const [speed, setSpeed] = useState(1);
  return (
    <label className="flex items-center gap-2 text-sm text-muted">
      Speed
      <select
        className="input w-auto"
        value={speed}
        onChange={(event) => {
          const chosen = Number(event.target.value);
          setSpeed(chosen);
          if (audio.current) audio.current.playbackRate = chosen;
        }}
      >
        {SPEEDS.map((each) => (
          <option key={each} value={each}>
            {each}×
          </option>
        ))}
      </select>
    </label>
  );
}

function Chapters({
  chapters,
  position,
  onSeek,
}: {
  chapters: readonly Chapter[];
  position: number;
  onSeek: (seconds: number) => void;
}) {
  const id = useId();
  if (chapters.length === 0) return null;
  const current = chapters.findLastIndex(({ startS }) => startS <= position + 0.5);
  return (
    <div>
      <h2 id={id} className="mb-2 font-semibold">
        Chapters
      </h2>
      <ol aria-labelledby={id} className="grid">
        {chapters.map(({ startS, title }, index) => (
          <li key={`${startS} ${title}`}>
            <button
              type="button"
              aria-current={index === current ? "true" : undefined}
              onClick={() => onSeek(startS)}
              className="flex min-h-11 w-full items-baseline gap-3 rounded-xl px-3 py-2 text-left hover:bg-sunken aria-[current]:bg-accent-soft aria-[current]:font-medium"
            >
              <span className="text-muted tabular-nums">{formatClock(startS * 1000)}</span>
              <span className="min-w-0 wrap-anywhere">{title}</span>
            </button>
          </li>
        ))}
      </ol>
    </div>
  );
}
