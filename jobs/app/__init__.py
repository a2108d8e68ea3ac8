"""The listening room: a small web app to try the ensemble and to review calls. Needs the extra `app`.

    serve.py -> Streamlit -> main.py -> try_page, calls_page, compare_page
                          -> sound.py: the calls' sound over HTTP

Pages only arrange; what they show is made by modules that know nothing of Streamlit (hear, published,
compare, drawing, markup), so that it can be tested without a browser.
"""
