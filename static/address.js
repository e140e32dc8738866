// The address of the page as the place where choices are kept.

/** Keep what is chosen in the address, so that it can be copied, sent and reloaded. */
export function setQuery(changes) {
  const address = new URL(location.href);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) address.searchParams.delete(key);
    else address.searchParams.set(key, value);
  }
  history.replaceState(null, "", address);
}
