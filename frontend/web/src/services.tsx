import {
  createLac,
  type Lac,
  type Microphone,
  type Platform,
  type SocketLike,
  type User,
} from "@lac/client";
import { createContext, useContext } from "react";
import { useStore } from "zustand";
import { browserMicrophone } from "./lib/microphone";
import { createStudios, type Studios } from "./lib/studio";

/** What pages get from outside. Tests give their own. */
export interface Services {
  lac: Lac;
  microphone: Microphone;
  /** mediasoup-client is large: it is fetched when somebody listens or goes live. */
  loadWebRtc: () => Promise<typeof import("@lac/client/webrtc")>;
  /** So is hls.js: when somebody listens by HLS. */
  loadHls: () => Promise<typeof import("@lac/client/hls")>;
  studios: Studios;
}

export function browserPlatform(): Platform {
  const platform: Platform = {
    baseUrl: window.location.origin,
    fetch: (input, init) => window.fetch(input, init),
    openSocket: (url) => new WebSocket(url) as unknown as SocketLike,
    storage: {
      get: (key) => window.localStorage.getItem(key),
      set: (key, value) => window.localStorage.setItem(key, value),
      remove: (key) => window.localStorage.removeItem(key),
    },
  };
  if (navigator.locks) {
    platform.exclusively = (name, work) =>
      navigator.locks.request(name, work) as ReturnType<typeof work>;
  }
  return platform;
}

export function browserServices(): Services {
  return withStudios({
    lac: createLac(browserPlatform()),
    microphone: browserMicrophone,
    loadWebRtc: () => import("@lac/client/webrtc"),
    loadHls: () => import("@lac/client/hls"),
  });
}

export function withStudios(services: Omit<Services, "studios">): Services {
  return { ...services, studios: createStudios(services) };
}

export const ServicesContext = createContext<Services | null>(null);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (!services) throw new Error("ServicesContext is missing");
  return services;
}

export const useLac = (): Lac => useServices().lac;

export function useUser(): User | null {
  return useStore(useLac().auth.store, (state) => state.user);
}
