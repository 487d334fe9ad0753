/** hls.js has types for its whole build only; the light one is the same without what audio does not need. */
declare module "hls.js/light" {
  export { default, ErrorTypes, Events } from "hls.js";
}
