// Browsers let no page search that was opened from a file: the search box would do nothing.
if (location.protocol === "file:") {
  document.querySelectorAll("#rtd-search-form").forEach((form) => form.remove());
  window.Worker = class { postMessage() {} };
}
