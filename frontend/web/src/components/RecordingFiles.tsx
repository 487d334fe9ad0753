import type {
  Broadcast,
  ExportFormat,
  Recording,
  RecordingExport,
  RequestOptions,
} from "@lac/client";
import { useCallback, useEffect, useState } from "react";
import { useAct } from "../lib/act";
import { saveBlob } from "../lib/download";
import { audioPath, isOpen } from "../lib/recordings";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { DownloadIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";
import { DeleteRecording } from "./DeleteRecording";

const EXPORTS: readonly { format: ExportFormat; label: string }[] = [
  { format: "m4a", label: "M4A" },
  { format: "mp3", label: "MP3" },
];
const LOOK_EVERY_MS = 1_500;

const isUnderWay = ({ status }: RecordingExport) => status === "queued" || status === "running";

/** A recording's files to take home, and, for whom it belongs to, copies in other formats and its end. */
export function RecordingFiles({
  broadcast,
  recording,
  auth,
  onDeleted,
}: {
  broadcast: Broadcast;
  recording: Recording;
  auth: RequestOptions["auth"];
  onDeleted: () => void;
}) {
  const { api } = useLac();
  const [copies, setCopies] = useState<RecordingExport[]>([]);
  const { act, problem, setProblem } = useAct();
  const { id } = recording;
  const open = isOpen(broadcast, recording);
  const runs =
    broadcast.yourRole !== null && ["admin", "host", "cohost"].includes(broadcast.yourRole);
  const bearer = typeof auth === "object" ? auth.bearer : auth;

  // biome-ignore lint/correctness/useExhaustiveDependencies: `bearer` stands for `auth`
  const look = useCallback(
    () =>
      api.exports(id, auth).then(
        ({ items }) => setCopies(items),
        () => undefined, // The recording itself is there without them.
      ),
    [api, id, bearer],
  );
  useEffect(() => void look(), [look]);
  const waiting = copies.some(isUnderWay);
  useEffect(() => {
    if (!waiting) return;
    const timer = setInterval(() => void look(), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, [waiting, look]);

  const save = (path: string, extension: string) =>
    act(async () => saveBlob(`${recording.title}.${extension}`, await api.file(path, auth)));

  return (
    <div className="grid gap-3 border-t border-line pt-5">
      <h2 className="font-semibold">Take it with you</h2>
      {problem && <Notice tone="error">{problem}</Notice>}
      <div className="flex flex-wrap items-center gap-2">
        <FileLink open={open} path={audioPath(id)} onSave={() => void save(audioPath(id), "ogg")}>
          Original (Ogg Opus)
        </FileLink>
        {EXPORTS.map(({ format, label }) => {
          const copy = copies.find((copy) => copy.format === format);
          const path = `/api/recordings/${encodeURIComponent(id)}/exports/${format}/download`;
          if (copy?.status === "ready")
            return (
              <FileLink key={format} open={open} path={path} onSave={() => void save(path, format)}>
                {label}
              </FileLink>
            );
          if (copy && isUnderWay(copy))
            return (
              <span
                key={format}
                role="status"
                className="inline-flex min-h-11 items-center gap-2 px-2 text-sm text-muted"
              >
                Making {label}
                <progress
                  value={copy.progress}
                  max={1}
                  aria-label={`Progress of ${label}`}
                  className="w-24 accent-accent"
                />
              </span>
            );
          if (!runs) return null;
          return (
            <Button
              key={format}
              onClick={() =>
                void act(async () => {
                  const asked = await api.requestExport(id, format);
                  setCopies((copies) => [
                    ...copies.filter((copy) => copy.format !== format),
                    asked,
                  ]);
                })
              }
            >
              Make {label}
            </Button>
          );
        })}
        <DeleteRecording
          broadcast={broadcast}
          recording={recording}
          onDeleted={onDeleted}
          onProblem={setProblem}
          className="ml-auto"
        />
      </div>
      {copies.map(
        ({ format, status, error }) =>
          status === "failed" && (
            <Notice
              key={format}
              tone="warn"
              title={`The ${format.toUpperCase()} could not be made`}
            >
              {error ?? "Try again."}
            </Notice>
          ),
      )}
    </div>
  );
}

/** What is not open needs the listener's token, which a link cannot carry. */
function FileLink({
  open,
  path,
  onSave,
  children,
}: {
  open: boolean;
  path: string;
  onSave: () => void;
  children: string;
}) {
  if (!open)
    return (
      <Button icon={<DownloadIcon />} onClick={onSave}>
        {children}
      </Button>
    );
  return (
    <a
      href={path}
      download=""
      className="inline-flex min-h-11 items-center justify-center gap-2 rounded-full border border-line-strong bg-surface px-4 font-medium text-ink transition-colors hover:bg-sunken"
    >
      <DownloadIcon />
      {children}
    </a>
  );
}
