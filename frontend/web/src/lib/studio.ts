import { createHost, type Host, type OpenPublish, type Room, type SoundKind } from "@lac/client";
import { createStore, type StoreApi } from "zustand/vanilla";
import type { Services } from "../services";

/** One show being hosted from this tab: its room and its way on air. Stays on air while other pages are looked at. */
export interface Studio {
  id: string;
  room: Room;
  host: Host;
  /** A page shows this studio. The returned function says that it no longer does. */
  enter(): () => void;
}

type Sources = Pick<Services, "lac" | "microphone" | "loadWebRtc">;

/** The way on air of somebody who was invited onto the stage: as the host's, without the show being theirs. */
export function createSpeaker(services: Sources, room: Room): Host {
  const speaker = createHost({
    broadcastId: room.id,
    api: null,
    microphone: services.microphone,
    openPublish: publishTo(services, room.id),
    onBroadcast: () => undefined,
    initial: loadSettings(),
  });
  speaker.store.subscribe((state, before) => {
    if (state.kind !== before.kind || state.deviceId !== before.deviceId) saveSettings(state);
  });
  return speaker;
}

function publishTo({ lac, loadWebRtc }: Sources, broadcastId: string): OpenPublish {
  return async (track, kind, handlers) => {
    const { publish } = await loadWebRtc();
    const auth = () => "session" as const;
    return publish({ broadcastId, request: lac.api.request, auth, ...handlers }, track, kind);
  };
}

export interface OnAir {
  id: string;
}

export interface Studios {
  of(id: string): Studio;
  /** The show that this tab is sending to now. */
  onAir: StoreApi<{ current: OnAir | null }>;
}

const SETTINGS_KEY = "lac.sound";

export function createStudios(services: Sources): Studios {
  const open = new Map<string, Studio>();
  const onAir = createStore<{ current: OnAir | null }>(() => ({ current: null }));

  // Closing the tab takes the show off the air: ask first.
  window.addEventListener("beforeunload", (event) => {
    if (onAir.getState().current) event.preventDefault();
  });

  function create(id: string): Studio {
    const { lac, microphone } = services;
    const room = lac.createRoom(id);
    const host = createHost({
      broadcastId: id,
      api: lac.api,
      microphone,
      openPublish: publishTo(services, id),
      onBroadcast: (broadcast) => room.update(broadcast),
      initial: loadSettings(),
    });
    let visitors = 0;

    const sending = () => host.store.getState().phase !== "off_air";
    const rest = () => {
      if (visitors > 0 || sending()) return;
      host.leave();
      room.close();
      open.delete(id);
    };
    host.store.subscribe((state, before) => {
      if (state.kind !== before.kind || state.deviceId !== before.deviceId) saveSettings(state);
      if (state.phase === before.phase) return;
      if (sending()) onAir.setState({ current: { id } });
      else if (onAir.getState().current?.id === id) onAir.setState({ current: null });
      rest();
    });
    room.store.subscribe((state, before) => {
      const over = state.broadcast?.status === "ended" && before.broadcast?.status !== "ended";
      const out = state.phase !== before.phase && state.phase === "removed";
      if (over || out) host.leave({ serverKnows: true });
    });
    window.addEventListener("pagehide", () => host.leave({ leavingPage: true }));

    return {
      id,
      room,
      host,
      enter() {
        if (visitors === 0 && room.store.getState().socket.name === "idle") room.open();
        visitors += 1;
        open.set(id, this);
        return () => {
          visitors -= 1;
          rest();
        };
      },
    };
  }

  return {
    onAir,
    of(id) {
      const known = open.get(id);
      if (known) return known;
      const studio = create(id);
      open.set(id, studio);
      return studio;
    },
  };
}

function loadSettings(): { kind?: SoundKind; deviceId?: string | null } {
  try {
    const { kind, deviceId } = JSON.parse(localStorage.getItem(SETTINGS_KEY) ?? "{}");
    return {
      ...(kind === "voice" || kind === "music" ? { kind } : {}),
      ...(typeof deviceId === "string" ? { deviceId } : {}),
    };
  } catch {
    return {};
  }
}

function saveSettings({ kind, deviceId }: { kind: SoundKind; deviceId: string | null }): void {
  try {
    localStorage.setItem(SETTINGS_KEY, JSON.stringify({ kind, deviceId }));
  } catch {
    // Not remembered, then.
  }
}
