import type { Host, HostState, MicrophoneProblem, SoundKind } from "@lac/client";
import { audioContext } from "../lib/audio";
import { MICROPHONE_HELP, useMicrophones } from "../lib/microphone";
import { Button } from "../ui/Button";
import { type Choice, Choices } from "../ui/Field";
import { MicIcon } from "../ui/icons";
import { Notice } from "../ui/Notice";

/** What is different for people who have no console. */
const SPEAKER_HELP: Partial<Record<MicrophoneProblem, string>> = {
  insecure:
    "Browsers give microphones only to pages opened over HTTPS. Ask the host for an address that begins with https.",
  unplugged:
    "It was unplugged or switched off. Choose another one, or plug it in and try again. Until then nobody hears you.",
};

const KINDS: readonly Choice<SoundKind>[] = [
  {
    value: "voice",
    label: "Voice",
    hint: "Removes echo and background noise, and evens out the loudness.",
  },
  { value: "music", label: "Music", hint: "Sends the sound in stereo, exactly as it comes in." },
];

const labelOf = (kind: SoundKind) => KINDS.find(({ value }) => value === kind)?.label.toLowerCase();

/** Which microphone, and how its sound is treated: for hosts and speakers alike. */
export function MicrophoneSetup({
  host,
  state,
  sending,
  speaker = false,
}: {
  host: Host;
  state: HostState;
  sending: boolean;
  /** A guest on somebody else's stage, who has no show of their own to begin. */
  speaker?: boolean;
}) {
  const on = state.microphone === "on";
  const devices = useMicrophones(on);
  const current = state.track?.getSettings?.().deviceId ?? state.deviceId ?? "";
  const insecure = !window.isSecureContext;
  const help = state.microphoneProblem ?? (insecure && !on ? "insecure" : null);
  return (
    <div className="grid gap-4">
      {help && (
        <Notice
          tone={help === "insecure" ? "warn" : "error"}
          title={MICROPHONE_HELP[help].title}
          action={
            help !== "insecure" && <Button onClick={() => host.openMicrophone()}>Try again</Button>
          }
        >
          {(speaker && SPEAKER_HELP[help]) || MICROPHONE_HELP[help].what}
        </Notice>
      )}
      {on ? (
        <label className="block">
          <span className="mb-1.5 block font-medium">Microphone</span>
          <select
            className="input"
            value={current}
            onChange={(event) => host.chooseDevice(event.target.value)}
          >
            {devices.length === 0 && (
              <option value={current}>{state.track?.label || "In use"}</option>
            )}
            {devices.map((device, index) => (
              <option key={device.deviceId} value={device.deviceId}>
                {device.label || `Microphone ${index + 1}`}
              </option>
            ))}
          </select>
        </label>
      ) : (
        help === null && (
          <div className="rounded-2xl bg-sunken p-4">
            <p className="mb-3 text-muted">
              Check your sound first: the browser asks whether this page may use the microphone.
              Nobody hears anything before you {speaker ? "start speaking" : "go live"}.
            </p>
            <Button
              icon={<MicIcon />}
              busy={state.microphone === "asking"}
              onClick={() => {
                audioContext();
                void host.openMicrophone();
              }}
            >
              Set up microphone
            </Button>
          </div>
        )
      )}
      {sending ? (
        <p className="text-sm text-muted">
          Sent as <span className="font-medium text-ink">{labelOf(state.kind)}</span>. This can be
          changed while {speaker ? "nobody hears you" : "off air"}.
        </p>
      ) : (
        <Choices
          legend="What you send"
          choices={KINDS}
          value={state.kind}
          onChange={(kind) => void host.chooseKind(kind)}
          disabled={state.phase === "starting"}
        />
      )}
    </div>
  );
}
