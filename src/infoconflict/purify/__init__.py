"""A model from a stranger: checked as hostile input, purified by an internal conflict, measured on clean rows.

The one who asks knows no trigger, and nothing here does. ``inspection`` says what is refused before anything is loaded,
``purify`` has the steps as the workflow ``workflow/rules/purify.smk`` runs them, ``report`` the page that comes out.
"""
