/** How long to wait before attempt number `attempt` (0 is the first retry), in milliseconds, with "equal" jitter:
 * never less than half the step, so that a server that comes back is not met by everyone at once. */
export function backoffMs(
  attempt: number,
  random: () => number,
  { firstMs = 500, maxMs = 15_000 } = {},
): number {
  const step = Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 16));
  return Math.round(step / 2 + (step / 2) * random());
}
