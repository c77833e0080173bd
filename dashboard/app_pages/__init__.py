"""The pages of the dashboard, a script each, which Streamlit runs anew at every turn."""
