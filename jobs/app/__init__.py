"""The review app: try the ensemble, play and correct calls, compare ensembles. Needs the extra `app`.

    serve -> Streamlit -> streamlit_script -> try_page, calls_page, compare_page
                       -> playback: the calls' sound over HTTP

Pages only arrange. What they show is made by modules that know nothing of Streamlit (utterance, answer,
published, call_views, comparison), so that it can be tested without a browser.
"""
