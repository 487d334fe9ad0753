import {
  createPlayer,
  type HlsWay,
  type Host,
  maySpeak,
  type OpenListen,
  type Player,
  type Room,
  type RoomView,
} from "@lac/client";
import { type RefObject, useEffect, useMemo, useRef } from "react";
import { useStore } from "zustand";
import { useServices } from "../services";
import { offerDiagnostics } from "./diagnostics";
import { useWakeUp } from "./hooks";
import { variantFor } from "./saving";

/** The player of a show's page, for as long as the page is open. `saves`: with less data. */
export function usePlayer(
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
    const hls: HlsWay = {
      find,
      told: () => room.store.getState().hls ?? null,
      open: async (address, handlers) => {
        const { playHls } = await loadHls();
        const audio = hlsAudio.current;
        if (!audio) throw new Error("The page has gone.");
        return playHls(address, { audio, renew: find, ...handlers });
      },
    };
    return createPlayer(openListen, hls, room.arrived);
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

/** Back to WebRTC when the server says that there is room, and at once for who is to speak. */
export function useChangeOver(player: Player, view: RoomView, onStage: boolean): void {
  const offers = view.webRtcOffers;
  const answered = useRef(offers);
  // Somebody who has gone back is where they want to be: they are asked when they return.
  const live = useStore(player.store, ({ position }) => position === null || position.live);
  useEffect(() => {
    if (offers === answered.current || !live) return;
    answered.current = offers;
    player.changeToWebRtc();
  }, [player, offers, live]);
  const speaks = onStage || maySpeak(view.you?.role);
  const via = useStore(player.store, (state) => state.via);
  useEffect(() => {
    if (speaks && via === "hls") player.changeToWebRtc(true);
  }, [player, speaks, via]);
}
