import type { Broadcast, NewBroadcast, Visibility } from "@lac/client";
import { toLocalInput } from "../lib/time";
import { Checkbox, type Choice, Choices, TextArea, TextField } from "../ui/Field";

/** What people write about a show. `time` is as the browser's own field has it; empty: none. */
export interface ShowValues {
  title: string;
  description: string;
  visibility: Visibility;
  time: string;
  /** From its first moment to its last. */
  recorded: boolean;
  rewind: boolean;
}

export const emptyShow: ShowValues = {
  title: "",
  description: "",
  visibility: "public",
  time: "",
  recorded: false,
  rewind: false,
};

export const valuesOf = (show: Broadcast): ShowValues => ({
  title: show.title,
  description: show.description,
  visibility: show.visibility,
  time: show.scheduledAt ? toLocalInput(show.scheduledAt) : "",
  recorded: show.recordingEnabled,
  rewind: show.rewindEnabled,
});

/** What can be seen to be wrong without asking, by the server's names. `before` is what the show has already. */
export function wrongShow(
  { title, time }: ShowValues,
  before: ShowValues = emptyShow,
): Record<string, string> {
  const wrong: Record<string, string> = {};
  if (title.trim() === "") wrong.title = "Give the show a title.";
  if (time !== before.time && time !== "" && !(new Date(time).getTime() > Date.now()))
    wrong.scheduledAt = "Choose a time in the future.";
  return wrong;
}

export function showOf(values: ShowValues): NewBroadcast {
  const { title, description, visibility, time, recorded, rewind } = values;
  return {
    title: title.trim(),
    visibility,
    ...(description.trim() === "" ? {} : { description: description.trim() }),
    ...(time === "" ? {} : { scheduledAt: new Date(time).toISOString() }),
    ...(recorded ? { recordingEnabled: true } : {}),
    ...(rewind ? { rewindEnabled: true } : {}),
  };
}

const VISIBILITIES: readonly Choice<Visibility>[] = [
  { value: "public", label: "Everyone", hint: "Listed on the home page." },
  { value: "unlisted", label: "Anyone with the link", hint: "Not listed anywhere." },
  {
    value: "private",
    label: "Invited people",
    hint: "Those who have your invite link, and those whom you give a part in the show.",
  },
];

export function ShowFields({
  values,
  errors,
  onChange,
  autoFocus = false,
  titleOnly = false,
  timed = true,
}: {
  values: ShowValues;
  errors: Readonly<Record<string, string | undefined>>;
  onChange: (values: ShowValues) => void;
  autoFocus?: boolean;
  /** Co-hosts may change no more than that. */
  titleOnly?: boolean;
  /** It has not begun yet. */
  timed?: boolean;
}) {
  const set = (changes: Partial<ShowValues>) => onChange({ ...values, ...changes });
  return (
    <>
      <TextField
        label="Title"
        required
        autoFocus={autoFocus}
        maxLength={200}
        value={values.title}
        error={errors.title}
        onChange={(event) => set({ title: event.target.value })}
      />
      {!titleOnly && (
        <>
          <TextArea
            label="Description"
            maxLength={10_000}
            value={values.description}
            error={errors.description}
            onChange={(event) => set({ description: event.target.value })}
          />
          <Choices
            legend="Who can listen"
            choices={VISIBILITIES}
            value={values.visibility}
            onChange={(visibility) => set({ visibility })}
          />
        </>
      )}
      {!titleOnly && timed && (
        <TextField
          label="Start time"
          type="datetime-local"
          hint="In your own time zone. Leave it empty to go live whenever you are ready."
          value={values.time}
          error={errors.scheduledAt}
          onChange={(event) => set({ time: event.target.value })}
          className="max-w-64"
        />
      )}
      {!titleOnly && (
        <Checkbox
          label="Record the whole show"
          hint={
            timed
              ? "From its first second to its last. Everyone in the room can see it, and hear it again."
              : "While the show is on, recording begins as soon as this is switched on, and everyone in the room can see it. Switched off, it goes on until you stop it."
          }
          checked={values.recorded}
          onChange={(recorded) => set({ recorded })}
        />
      )}
      {!titleOnly && (
        <Checkbox
          label="Listeners may go back"
          hint="Those who listen by HLS, as they do where many listen, can hear what they have missed. It costs the server a little all the time, not only while somebody listens so."
          checked={values.rewind}
          onChange={(rewind) => set({ rewind })}
        />
      )}
    </>
  );
}
