export { backoffMs } from "./backoff";
export * from "./platform";
export * from "./room/reducer";
export * from "./services/api";
export * from "./services/hls-types";
export * from "./services/media-types";
export * from "./services/socket";
export * from "./stores/auth";
export * from "./stores/broadcast";
export * from "./stores/host";
export * from "./stores/player";
export * from "./types";

import type { Platform } from "./platform";
import { type Api, createApi, createAuthApi, createRequest } from "./services/api";
import { type Auth, createAuth } from "./stores/auth";
import { createRoom, type Room } from "./stores/broadcast";

/** Everything an app needs that is not tied to one page. */
export interface Lac {
  platform: Platform;
  api: Api;
  auth: Auth;
  createRoom: (broadcastId: string) => Room;
}

export function createLac(platform: Platform): Lac {
  const { baseUrl, fetch } = platform;
  const auth = createAuth(platform, createAuthApi(createRequest({ baseUrl, fetch })));
  const api = createApi(createRequest({ baseUrl, fetch, tokens: auth }));
  return { platform, api, auth, createRoom: (id) => createRoom(platform, api, auth, id) };
}
