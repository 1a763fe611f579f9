"""What a person sees in a browser; the only package that knows Gradio."""
