import type { RoomView, StageLink } from "@lac/client";
import { useEffect, useState } from "react";
import { useServices } from "../services";
import { MicIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";

/** Who is on the stage, and who of them is speaking just now. Nothing while the host is there alone. */
export function Speakers({ view }: { view: RoomView }) {
  const hostId = view.broadcast?.host.id;
  const people = [...new Set(view.producers.map(({ userId }) => userId))];
  if (people.every((id) => id === hostId)) return null;
  const speaking = new Set(view.speaking.map(({ userId }) => userId));
  return (
    <div className="grid gap-2">
      <h2 className="text-sm text-muted" id="on-stage">
        On stage
      </h2>
      <ul aria-labelledby="on-stage" className="flex flex-wrap gap-2">
        {people.map((id) => (
          <li
            key={id}
            className={`inline-flex min-h-8 items-center gap-1.5 rounded-full border px-3 text-sm font-medium transition-colors ${
              speaking.has(id) ? "border-accent bg-accent-soft text-accent" : "border-line"
            }`}
          >
            <MicIcon width={16} height={16} className={speaking.has(id) ? "" : "invisible"} />
            {id === view.you?.id ? "You" : (view.names[id] ?? "Somebody")}
            {speaking.has(id) && <span className="sr-only">(speaking)</span>}
          </li>
        ))}
      </ul>
    </div>
  );
}

/**
 * Plays the others on the stage to somebody who is on it: each as they speak, with less delay than the show has and
 * without one's own voice.
 */
export function StageSound({
  broadcastId,
  view,
  active,
}: {
  broadcastId: string;
  view: RoomView;
  active: boolean;
}) {
  const { lac, loadWebRtc } = useServices();
  const [link, setLink] = useState<StageLink | null>(null);
  const [tracks, setTracks] = useState<ReadonlyMap<string, MediaStreamTrack>>(new Map());
  const [problem, setProblem] = useState<string | null>(null);

  useEffect(() => {
    if (!active) return;
    let opened: StageLink | null = null;
    let gone = false;
    loadWebRtc().then(
      ({ hearStage }) => {
        if (gone) return;
        opened = hearStage({
          broadcastId,
          request: lac.api.request,
          auth: () => "session" as const,
          onTracks: setTracks,
          onState: (state) => setProblem(state.name === "failed" ? state.error.message : null),
        });
        setLink(opened);
      },
      // The same code sends the microphone: if it cannot be fetched, that is said there.
      () => undefined,
    );
    const leave = () => opened?.close({ leavingPage: true });
    window.addEventListener("pagehide", leave);
    return () => {
      gone = true;
      window.removeEventListener("pagehide", leave);
      opened?.close();
      setLink(null);
      setProblem(null);
    };
  }, [active, broadcastId, lac, loadWebRtc]);

  const others = view.producers
    .filter(({ userId }) => userId !== view.you?.id)
    .map(({ id }) => id)
    .join(" ");
  useEffect(() => link?.hear(others ? others.split(" ") : []), [link, others]);

  return (
    <>
      {problem && (
        <Notice tone="warn" title="You do not hear the others on the stage">
          {problem}
        </Notice>
      )}
      {active && [...tracks].map(([producerId, track]) => <Voice key={producerId} track={track} />)}
    </>
  );
}

function Voice({ track }: { track: MediaStreamTrack }) {
  useEffect(() => {
    const element = new Audio();
    element.srcObject = new MediaStream([track]);
    // A press has led here, and the microphone is on: browsers let the page sound.
    element.play().catch(() => undefined);
    return () => {
      element.pause();
      element.srcObject = null;
    };
  }, [track]);
  return null;
}
