import type { Role } from "@lac/client";

const WORDS: Partial<Record<Role, string>> = {
  admin: "Admin",
  host: "Host",
  cohost: "Co-host",
  moderator: "Moderator",
  speaker: "Speaker",
};

export function RoleBadge({ role }: { role: Role }) {
  const word = WORDS[role];
  if (!word) return null;
  return (
    <span className="rounded-md bg-accent-soft px-1.5 text-xs leading-5 font-semibold text-accent">
      {word}
    </span>
  );
}
