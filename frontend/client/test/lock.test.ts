import { expect, it } from "vitest";
import lock from "../../package-lock.json";

interface Package {
  resolved?: string;
  link?: boolean;
  optionalDependencies?: Record<string, string>;
}

const packages = Object.entries(lock.packages as unknown as Record<string, Package>);

it("the lock file has the binaries of every platform that a package names", () => {
  const names = new Set(packages.map(([path]) => path.split("node_modules/").at(-1)));
  const missing = packages.flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !names.has(name))
      .map((name) => `${path}: ${name}`),
  );
  expect(missing).toEqual([]);
});

it("the lock file says what to install, not from where", () => {
  const addresses = packages.filter(([, { resolved, link }]) => resolved !== undefined && !link);
  expect(addresses.map(([path]) => path)).toEqual([]);
});
