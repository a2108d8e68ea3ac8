"""The review app: the review queue, calls to play and correct, ensembles to try and compare.

It needs the extra `app`.

    serve -> Streamlit -> streamlit_script -> streamlit_pages
          -> review_page: the queue, plain HTML
          -> playback: the calls' sound over HTTP

Pages only arrange. What they show is made by modules that know nothing of Streamlit (utterance, answer,
published, call_views, comparison), so that it can be tested without a browser.
"""
