import type { Room } from "@lac/client";
import { useEffect, useMemo } from "react";
import { useLac, useUser } from "../services";
import { useWakeUp } from "./hooks";

/** A place in the room `id` for as long as the page is shown; taken anew when somebody signs in or out. */
export function useRoom(id: string): Room {
  const lac = useLac();
  const userId = useUser()?.id;
  const room = useMemo(() => lac.createRoom(id), [lac, id]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another person is another place
  useEffect(() => {
    room.open();
    return () => room.close();
  }, [room, userId]);
  useWakeUp(() => room.retryNow());
  return room;
}
