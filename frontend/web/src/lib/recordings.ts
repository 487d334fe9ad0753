import {
  type Api,
  ApiError,
  type Broadcast,
  type Chapter,
  type Peaks,
  type Recording,
  type RequestOptions,
  type Said,
} from "@lac/client";
import { useEffect, useState } from "react";
import { useLac } from "../services";

type Auth = RequestOptions["auth"];

export const audioPath = (id: string) => `/api/recordings/${encodeURIComponent(id)}/download`;

/**
 * Whether a file's address opens it as it is. Those of a private show, and of a recording that failed, are fetched with
 * one's token, which neither a link nor `<audio>` can carry.
 */
export const isOpen = ({ visibility }: Broadcast, { status }: Recording) =>
  visibility !== "private" && status === "ready";

const UNFINISHED_EVERY_MS = 3_000;
/** How long after its end the recording of a show may still be in the making. */
const SOON_MS = 120_000;
const PEAKS_EVERY_MS = 4_000;

/**
 * The recordings of a show that is over, the earliest first; asked for again while one of them is not finished. Who does
 * not run the show is not told of those: for them, for a while after the show.
 */
export function useRecordings({ id: broadcastId, status, endedAt }: Broadcast, auth: Auth) {
  const { api } = useLac();
  const [recordings, setRecordings] = useState<Recording[] | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  const bearer = typeof auth === "object" ? auth.bearer : auth;
  const ended = status === "ended";
  // biome-ignore lint/correctness/useExhaustiveDependencies: `round` asks again, and `bearer` stands for `auth`
  useEffect(() => {
    if (!ended) return;
    let gone = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    api.recordings({ broadcastId }, auth).then(
      ({ items }) => {
        if (gone) return;
        setRecordings(items.toReversed());
        setProblem(null);
        const mayCome = items.length === 0 && Date.now() - Date.parse(endedAt ?? "") < SOON_MS;
        if (items.some(isUnfinished) || mayCome)
          timer = setTimeout(() => setRound((round) => round + 1), UNFINISHED_EVERY_MS);
      },
      (error) => gone || setProblem(error),
    );
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [api, broadcastId, bearer, ended, endedAt, round]);
  return { recordings, problem, reload: () => setRound((round) => round + 1) };
}

export const isUnfinished = ({ status }: Recording) =>
  status === "recording" || status === "processing";

/** Everything that can be shown with a recording (null: none). The waveform comes a little after the show. */
export function useRecordingDetails(id: string | null, auth: Auth) {
  const { api } = useLac();
  const [chapters, setChapters] = useState<Chapter[]>([]);
  const [chat, setChat] = useState<Said[]>([]);
  const [peaks, setPeaks] = useState<Peaks | null>(null);
  const bearer = typeof auth === "object" ? auth.bearer : auth;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `bearer` stands for `auth`
  useEffect(() => {
    setChapters([]);
    setChat([]);
    setPeaks(null);
    if (id === null) return;
    let gone = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    // What is missing is not shown: the recording itself can be heard without it.
    api.chapters(id, auth).then(
      ({ chapters }) => gone || setChapters(chapters),
      () => undefined,
    );
    readChat(api, id, auth).then(
      (all) => gone || setChat(all),
      () => undefined,
    );
    const readPeaks = () =>
      api.peaks(id, auth).then(
        (peaks) => gone || setPeaks(peaks),
        (error) => {
          const pending = error instanceof ApiError && error.code === "analysis_pending";
          if (!gone && pending) timer = setTimeout(readPeaks, PEAKS_EVERY_MS);
        },
      );
    void readPeaks();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [api, id, bearer]);
  return { chapters, chat, peaks };
}

/** The most that is shown beside a recording. */
const CHAT_PAGES = 20;

async function readChat(api: Api, id: string, auth: Auth): Promise<Said[]> {
  const all: Said[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < CHAT_PAGES; page++) {
    const { items, nextCursor } = await api.recordingChat(id, cursor, auth);
    all.push(...items);
    if (nextCursor === null) break;
    cursor = nextCursor;
  }
  return all;
}

/** Loudness from 0 to 1 for each of `bars` equal stretches of the recording. */
export function barsOf({ data, length }: Peaks, bars: number): number[] {
  const count = Math.min(bars, length);
  return Array.from({ length: count }, (_, bar) => {
    const from = Math.floor((bar * length) / count);
    const to = Math.max(from + 1, Math.floor(((bar + 1) * length) / count));
    let most = 0;
    for (let pixel = from; pixel < to; pixel++) {
      most = Math.max(most, -(data[2 * pixel] ?? 0), data[2 * pixel + 1] ?? 0);
    }
    return most / 127;
  });
}
