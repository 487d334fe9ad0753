import type { RefObject } from "react";

/** A strip that fills with sound. `useLevel` draws it through `target`. */
export function LevelMeter({
  label,
  target,
}: {
  label: string;
  target: RefObject<HTMLDivElement | null>;
}) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a <meter> cannot be drawn as segments in every browser
    <div
      ref={target}
      className="meter"
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={0}
    >
      <span />
    </div>
  );
}
