import { PageState } from "../components/PageState";
import { ButtonLink } from "../ui/Button";

export function NotFoundPage() {
  return (
    <>
      <title>Page not found · LiveAudioCast</title>
      <PageState
        title="There is no such page"
        action={
          <ButtonLink to="/" look="primary">
            See what is on
          </ButtonLink>
        }
      >
        The address may be mistyped, or the page has moved.
      </PageState>
    </>
  );
}
