import type { Removal, Room, RoomView } from "@lac/client";
import { useLocation } from "react-router";
import { useNow } from "../lib/hooks";
import { formatDateTime } from "../lib/time";
import { Button, ButtonLink } from "../ui/Button";
import { Loading, PageState } from "./PageState";

const home = (
  <ButtonLink to="/" look="primary">
    See what is on
  </ButtonLink>
);

/** Also for those who are banned: until when, and the way back once it is over. */
function Removed({ room, removal }: { room: Room; removal: Removal }) {
  const { reason, banned, until } = removal;
  const now = useNow(until ? 1000 : null);
  const over = until !== null && Date.parse(until) <= now;
  return (
    <PageState
      title={banned ? "You are banned from this show" : "You were removed from this show"}
      action={
        over ? (
          <Button look="primary" onClick={() => room.open()}>
            Come in again
          </Button>
        ) : (
          home
        )
      }
    >
      {banned && until && !over && (
        <>
          You can come back after <time dateTime={until}>{formatDateTime(until)}</time>.{" "}
        </>
      )}
      {over && "The ban is over. "}
      {banned && !until && "The ban does not end by itself. "}
      {reason ? (
        <>The reason given: “{reason}”</>
      ) : (
        !over && `A moderator ${banned ? "banned" : "removed"} you.`
      )}
    </PageState>
  );
}

/** What stands in for a show's page when there is nothing to show. Null when there is. */
export function useRoomProblem(room: Room, { phase, problem, removed }: RoomView) {
  const { pathname, hash } = useLocation();
  const signIn = (
    <ButtonLink to={`/login?next=${encodeURIComponent(pathname + hash)}`} look="primary">
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
          The link may be mistyped, or the show may have been deleted. If it is private, open the
          invite link that you were sent, or sign in with the account that was invited.
        </PageState>
      );
    case "invite_invalid":
      return (
        <PageState title="This invite link does not work any more" action={home}>
          The host may have made a new one, or a part of it is missing. Ask for the link again.
        </PageState>
      );
    case "private":
      return (
        <PageState title="This show is private" action={signIn}>
          Only invited people can come in. Open the invite link that you were sent, or sign in with
          the account that was invited.
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
        <Removed room={room} removal={removed ?? { reason: null, banned: false, until: null }} />
      );
    case "locked":
      return (
        <PageState title="The room is locked" action={home}>
          Nobody new comes in just now. Stay on this page: it lets you in as soon as a moderator
          opens the room again.
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
