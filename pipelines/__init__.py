"""The research pipeline: parameters, stages run by DVC, the research notebook run by papermill, and the demo."""
