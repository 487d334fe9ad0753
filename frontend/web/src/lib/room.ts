import type { Room } from "@lac/client";
import { useEffect, useMemo } from "react";
import { useLocation } from "react-router";
import { useLac, useUser } from "../services";
import { useWakeUp } from "./hooks";

/** A place in the room `id` for as long as the page is shown; taken anew when somebody signs in or out. */
export function useRoom(id: string): Room {
  const lac = useLac();
  const userId = useUser()?.id;
  const invite = inviteIn(useLocation().hash);
  const room = useMemo(() => lac.createRoom(id), [lac, id]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another person is another place
  useEffect(() => {
    room.open(invite);
    return () => room.close();
  }, [room, userId, invite]);
  useWakeUp(() => room.retryNow());
  return room;
}

/** An invite link carries its token behind the #, which browsers send to no server. */
export const inviteLink = (id: string, invite: string) =>
  `${window.location.origin}/b/${encodeURIComponent(id)}#invite=${encodeURIComponent(invite)}`;

function inviteIn(hash: string): string | null {
  return new URLSearchParams(hash.slice(1)).get("invite") || null;
}
