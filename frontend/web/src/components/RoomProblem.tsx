import type { Room, RoomView } from "@lac/client";
import { useLocation } from "react-router";
import { Button, ButtonLink } from "../ui/Button";
import { Loading, PageState } from "./PageState";

const home = (
  <ButtonLink to="/" look="primary">
    See what is on
  </ButtonLink>
);

/** What stands in for a show's page when there is nothing to show. Null when there is. */
export function useRoomProblem(room: Room, { phase, problem, removed }: RoomView) {
  const { pathname } = useLocation();
  const signIn = (
    <ButtonLink to={`/login?next=${encodeURIComponent(pathname)}`} look="primary">
      Sign in
    </ButtonLink>
  );
  switch (phase) {
    case "open":
      return null;
    case "loading":
      return <Loading />;
    case "not_found":
      return (
        <PageState title="This show was not found" action={home}>
          The link may be mistyped, the show may have been deleted, or it is private and you are not
          signed in with an invited account.
        </PageState>
      );
    case "private":
      return (
        <PageState title="This show is private" action={signIn}>
          Only invited people can come in. If you were invited, sign in with that account.
        </PageState>
      );
    case "sign_in":
      return (
        <PageState title="Sign in to come in" action={signIn}>
          This show is not open to guests, or your session has ended.
        </PageState>
      );
    case "removed":
      return (
        <PageState title="You were removed from this show" action={home}>
          {removed?.reason ? <>The reason given: “{removed.reason}”</> : "A moderator removed you."}
        </PageState>
      );
    default:
      return (
        <PageState
          title="The show could not be loaded"
          action={
            <Button look="primary" onClick={() => room.open()}>
              Try again
            </Button>
          }
        >
          {problem}
        </PageState>
      );
  }
}
