import { lazy, Suspense } from "react";
import { Route, Routes, useLocation } from "react-router";
import { ErrorBoundary } from "./components/ErrorBoundary";
import { Layout } from "./components/Layout";
import { Loading } from "./components/PageState";
import { HomePage } from "./pages/HomePage";
import { NotFoundPage } from "./pages/NotFoundPage";

const PlayerPage = lazy(() => import("./pages/PlayerPage"));
const MyShowsPage = lazy(() => import("./pages/MyShowsPage"));
const HostPage = lazy(() => import("./pages/HostPage"));
const LoginPage = lazy(() => import("./pages/LoginPage"));
const RegisterPage = lazy(() => import("./pages/RegisterPage"));
const SetupPage = lazy(() => import("./pages/SetupPage"));
const ForgotPasswordPage = lazy(() => import("./pages/ForgotPasswordPage"));
const ResetPasswordPage = lazy(() => import("./pages/ResetPasswordPage"));
const VerifyEmailPage = lazy(() => import("./pages/VerifyEmailPage"));
const AccountPage = lazy(() => import("./pages/AccountPage"));

export function App() {
  return (
    <Routes>
      <Route element={<Layout />}>
        <Route index element={<HomePage />} />
        <Route path="b/:id" element={<Later page={PlayerPage} />} />
        <Route path="host" element={<Later page={MyShowsPage} />} />
        <Route path="host/:id" element={<Later page={HostPage} />} />
        <Route path="login" element={<Later page={LoginPage} />} />
        <Route path="register" element={<Later page={RegisterPage} />} />
        <Route path="setup" element={<Later page={SetupPage} />} />
        <Route path="forgot-password" element={<Later page={ForgotPasswordPage} />} />
        <Route path="reset-password" element={<Later page={ResetPasswordPage} />} />
        <Route path="verify-email" element={<Later page={VerifyEmailPage} />} />
        <Route path="account" element={<Later page={AccountPage} />} />
        <Route path="*" element={<NotFoundPage />} />
      </Route>
    </Routes>
  );
}

/** Loaded when first visited. Another path begins afresh, with its own state and its own errors. */
function Later({ page: Page }: { page: React.ComponentType }) {
  const { pathname } = useLocation();
  return (
    <ErrorBoundary key={pathname}>
      <Suspense fallback={<Loading />}>
        <Page />
      </Suspense>
    </ErrorBoundary>
  );
}
