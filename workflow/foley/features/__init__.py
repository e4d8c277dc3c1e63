"""Features: clip -> array, extracted once and stored."""
