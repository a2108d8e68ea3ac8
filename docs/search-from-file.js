// Browsers let no page search that was opened from a file: the box would do nothing.
if (location.protocol === "file:") {
  document.querySelectorAll('[data-bs-target="#mkdocs_search_modal"]').forEach((link) => link.remove());
}
