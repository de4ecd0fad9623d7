//! A local server that speaks OpenAI's protocol.
