"""Stage one: pictures and class names through the frozen encoder, into stores under the home."""
