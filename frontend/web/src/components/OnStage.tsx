import type { Host, HostState, Room, RoomView } from "@lac/client";
import { useEffect, useMemo, useRef, useState } from "react";
import { useStore } from "zustand";
import { useAct } from "../lib/act";
import { audioContext, useLevel } from "../lib/audio";
import { useWakeUp } from "../lib/hooks";
import { createSpeaker } from "../lib/studio";
import { useServices } from "../services";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { Dialog } from "../ui/Dialog";
import { MicIcon, MicOffIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";
import { LevelMeter } from "./LevelMeter";
import { MicrophoneSetup } from "./MicrophoneSetup";
import { StageSound } from "./Speakers";

export interface Speaking {
  broadcastId: string;
  speaker: Host;
  /** This person may be heard. */
  onStage: boolean;
  /** They have stepped down by themselves, and may step up again. */
  away: boolean;
  /** Somebody took them off the stage. */
  returned: boolean;
  /** Their voice goes out: what they hear of the show would be themselves. */
  heard: boolean;
  leave(): Promise<void>;
  stepUp(): void;
}

/** A listener's way onto somebody else's stage and back. Leaving the page leaves the stage. */
export function useSpeaking(room: Room, view: RoomView): Speaking {
  const services = useServices();
  const speaker = useMemo(() => createSpeaker(services, room), [services, room]);
  const phase = useStore(speaker.store, (state) => state.phase);
  const [away, setAway] = useState(false);
  const [returned, setReturned] = useState(false);
  const role = view.you?.role;
  const onStage = role === "speaker" && view.broadcast?.status === "live";
  const before = useRef(role);

  useEffect(() => {
    const was = before.current;
    before.current = role;
    if (role === "speaker") setReturned(false);
    else if (was === "speaker") {
      speaker.leave({ serverKnows: true });
      setReturned(role === "listener");
      setAway(false);
    }
  }, [role, speaker]);

  const gone = view.phase === "removed" || view.broadcast?.status === "ended";
  useEffect(() => {
    if (gone) speaker.leave({ serverKnows: true });
  }, [gone, speaker]);

  useEffect(() => {
    const leave = () => speaker.leave({ leavingPage: true });
    window.addEventListener("pagehide", leave);
    return () => {
      window.removeEventListener("pagehide", leave);
      speaker.leave({ leavingPage: true });
    };
  }, [speaker]);
  useEffect(() => {
    if (phase !== "on_air") return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [phase]);
  useWakeUp(() => speaker.retryNow());

  return {
    broadcastId: room.id,
    speaker,
    onStage: onStage && !away,
    away: onStage && away,
    returned,
    heard: phase === "on_air" || phase === "reconnecting",
    async leave() {
      speaker.leave();
      setAway(true);
      const id = room.store.getState().you?.id;
      // Where the server keeps the role for a moderator to take, stepping down is all there is to do.
      if (id) await room.moveToAudience(id).catch(() => undefined);
    },
    stepUp: () => setAway(false),
  };
}

/** The question that an invited listener gets. Closed without an answer it stays on the page as a notice. */
export function Invitation({ room, view, speaker }: { room: Room; view: RoomView; speaker: Host }) {
  const [later, setLater] = useState(false);
  const { act, busy, problem, setProblem } = useAct();
  const { invited } = view;
  useEffect(() => {
    if (!invited) {
      setLater(false);
      setProblem(null);
    }
  }, [invited, setProblem]);

  const accept = () =>
    act(async () => {
      // In the click itself: browsers let a page make sound only then.
      audioContext();
      await room.acceptInvite();
      void speaker.openMicrophone();
    });

  return (
    <>
      {invited && later && (
        <Notice
          title="You are invited to speak"
          action={
            <Button look="primary" onClick={() => setLater(false)}>
              Answer
            </Button>
          }
        >
          The invitation waits for your answer.
        </Notice>
      )}
      <Dialog
        open={invited && !later}
        onClose={() => setLater(true)}
        title="You are invited to speak"
        unasked
      >
        <p className="mb-3">
          {view.broadcast?.host.displayName} and everyone who listens would hear you.
        </p>
        <p className="mb-4 text-muted">
          If you accept, the browser asks whether this page may use the microphone. You check your
          sound first: nobody hears you before you press “Start speaking”. Headphones keep the show
          out of your microphone.
        </p>
        {problem && (
          <div className="mb-4">
            <Notice tone="error">{problem}</Notice>
          </div>
        )}
        <div className="flex flex-wrap justify-end gap-2">
          <Button look="quiet" busy={busy} onClick={() => void act(() => room.declineInvite())}>
            Decline
          </Button>
          <Button look="primary" busy={busy} icon={<MicIcon />} onClick={() => void accept()}>
            Accept
          </Button>
        </div>
      </Dialog>
    </>
  );
}

/** The studio of somebody who speaks in another person's show. */
export function StagePanel({ view, speaking }: { view: RoomView; speaking: Speaking }) {
  const { speaker } = speaking;
  const state = useStore(speaker.store);
  const meter = useRef<HTMLDivElement>(null);
  useLevel(state.track, [meter]);
  const title = useRef<HTMLDivElement>(null);
  // The question that led here had the focus.
  useEffect(() => title.current?.focus({ preventScroll: false }), []);

  const { you, members } = view;
  const muted = you ? members[you.id]?.muted === true : false;
  const sending = speaking.heard;

  return (
    <div ref={title} tabIndex={-1} className="rounded-card outline-none">
      <Card title="You are on stage">
        <div className="grid gap-5">
          <div className="flex flex-wrap items-center gap-3">
            {sending ? (
              <Button
                size="large"
                className="grow sm:grow-0"
                look={state.paused ? "primary" : "outline"}
                icon={state.paused ? <MicIcon /> : <MicOffIcon />}
                onClick={state.paused ? speaker.resume : speaker.pause}
              >
                {state.paused ? "Unmute myself" : "Mute myself"}
              </Button>
            ) : (
              <Button
                size="large"
                look="signal"
                className="grow sm:grow-0"
                icon={<MicIcon />}
                busy={state.phase !== "off_air"}
                onClick={() => {
                  audioContext();
                  void speaker.goLive();
                }}
              >
                Start speaking
              </Button>
            )}
            <Button size="large" className="grow sm:grow-0" onClick={() => void speaking.leave()}>
              Leave the stage
            </Button>
            <p role="status" className="min-h-6 flex-1 basis-60 font-medium">
              {words(state, muted)}
            </p>
          </div>
          {state.problem && (
            <Notice tone="error" title="That did not work">
              {state.problem}
            </Notice>
          )}
          <StageSound broadcastId={speaking.broadcastId} view={view} active={sending} />
          {muted && (
            <Notice tone="warn" title="You are muted">
              A host or moderator has muted you. Ask them in the chat to unmute you.
            </Notice>
          )}
          <div>
            <p className="mb-2 flex justify-between font-medium">
              Microphone level
              {state.paused && <span className="text-signal">muted</span>}
            </p>
            <LevelMeter label="Microphone level" target={meter} />
          </div>
          <MicrophoneSetup host={speaker} state={state} sending={sending} speaker />
          {sending && (
            <p className="text-sm text-muted">
              You hear the others on the stage, and not your own voice. Leaving this page ends it.
            </p>
          )}
        </div>
      </Card>
    </div>
  );
}

function words(state: HostState, muted: boolean): string {
  switch (state.phase) {
    case "starting":
      return state.microphone === "asking" ? "Allow the microphone to go on." : "Connecting…";
    case "on_air":
      if (state.paused) return "You have muted yourself.";
      return muted ? "You are muted: nobody hears you." : "Everyone hears you.";
    case "reconnecting":
      return "The connection broke. Reconnecting…";
    default:
      return "Nobody hears you yet.";
  }
}
